//! What the documents show works: each block of TOML is a configuration that `millrace check` accepts, the bars that
//! the README names are those of `bench/instructions.py`, and the pages that are to be read at once stay short.

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
