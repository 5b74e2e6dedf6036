//! What the documents show works: each block of TOML is a configuration that `millrace check` accepts, the bars that
//! the README names are those of `bench/instructions.py`, each row of the exam that a test or a source file names stands
//! in the exam's page, and the pages that are to be read at once stay short.

use std::fs;
use std::path::{Path, PathBuf};

use millrace::config::lower::lower;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).expect("docs");
    let mut pages: Vec<_> = docs.map(|entry| entry.expect("an entry").path()).collect();
    pages.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    pages.push(root().join("README.md"));
    pages
}

pub fn configurations_are_accepted() {
    let mut count = 0;
    for page in pages() {
        let text = text(&page);
        for block in text.split("\n```toml\n").skip(1) {
            let block = block.split("\n```").next().expect("a block");
            let (config, problems) = lower(block);
            let told = problems.render(&page.display().to_string(), block);
            assert!(config.is_some(), "{}\n{block}\n{told}", page.display());
            count += 1;
        }
    }
    assert!(count >= 8, "{count} blocks found");
}

pub fn readme_names_the_bars() {
    let readme = text(&root().join("README.md")).replace(['\n', ','], " ");
    let bench = text(&root().join("bench/instructions.py"));
    let bars =
        bench.split("\nLIMITS = {").nth(1).expect("LIMITS").split('}').next().expect("an end");
    for bar in bars.split(", ") {
        let (case, count) = bar.split_once(": ").expect("a case and its bar");
        let shown = count.replace('_', " ");
        assert!(readme.contains(&shown), "README.md does not name the bar of {case}: {shown}");
    }
}

pub fn pages_are_short() {
    for (page, most) in [("README.md", 150), ("src/ARCHITECTURE.md", 120)] {
        let lines = text(&root().join(page)).lines().count();
        assert!(lines <= most, "{page} has {lines} lines, at most {most}");
    }
}

/// Each file below `folder` that holds Rust.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

pub fn rows_are_in_the_exam() {
    let exam = text(&root().join("tests/exam/README.md"));
    let has_row = |id: &str| exam.contains(&format!("\n| {id} |"));
    let is_row = |id: &str| {
        id.is_ascii()
            && id.len() == 3
            && id.starts_with(|group: char| group.is_ascii_uppercase())
            && id[1..].bytes().all(|byte| byte.is_ascii_digit())
    };
    for (name, _) in crate::exam::rows() {
        let id = name[..3].to_uppercase();
        assert!(
            !is_row(&id) || has_row(&id),
            "the test {name} is of no row in tests/exam/README.md"
        );
    }
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut cited = 0;
    for file in files {
        let text = text(&file);
        for cite in text.split("exam ").skip(1) {
            let id = cite.get(..3).unwrap_or_default();
            if is_row(id) {
                assert!(has_row(id), "{} cites the row {id}, which there is not", file.display());
                cited += 1;
            }
        }
    }
    assert!(cited > 50, "{cited} rows are cited");
}
