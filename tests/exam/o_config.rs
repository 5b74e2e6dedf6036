//! Group O: configurations as people write them, and as they break. What is wrong is refused with its place, and
//! nothing has happened; what `check` says is what `run` does.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::Row;
use crate::support::proxy::temporary;
use crate::support::tls::{Authority, Flaw};
use crate::support::{Driver, Origin, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("o01_what_is_no_configuration", o01_what_is_none),
        ("o02_what_overlaps_names_both_places", o02_what_overlaps),
        ("o03_numbers_out_of_bounds", o03_numbers),
        ("o04_what_leads_to_itself", o04_loops),
        ("o05_certificates_that_are_no_good", o05_certificates),
        ("o06_expressions_take_linear_time", o06_expressions),
        ("o02_included_files_name_their_own_places", o02_included_files),
        ("o07_check_and_run_agree_on_mutations", o07_mutations),
    ]
}

const GOOD: &str = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[[cluster]]\nname = \"app\"\nhealth = { type = \"off\" }\n\
    [[cluster.endpoint]]\naddress = \"127.0.0.1:1\"\n[[route]]\ncluster = \"app\"\n";

/// A file that goes with its test.
struct File(PathBuf);

impl File {
    fn of(bytes: impl AsRef<[u8]>) -> Self {
        let path = temporary("toml");
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn check(&self) -> (i32, String) {
        told(&program().arg("check").arg(&self.0).output().unwrap())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
}

fn told(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// Refused by `check` and by `run`, with this word in what is said.
fn refused(driver: Driver, text: impl AsRef<[u8]>, says: &str) {
    let file = File::of(&text);
    let shown =
        String::from_utf8_lossy(&text.as_ref()[..text.as_ref().len().min(200)]).into_owned();
    let (code, report) = file.check();
    assert_eq!(code, 2, "{shown}: {report}");
    assert!(report.contains(says), "{shown}: no {says:?} in {report}");
    let driver = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
    let ran =
        program().args(["run", "--driver", driver, "--config"]).arg(&file.0).output().unwrap();
    let (code, report) = told(&ran);
    assert_eq!(code, 2, "{shown}: {report}");
}

fn o01_what_is_none(driver: Driver) {
    let with = |more: &str| format!("{GOOD}{more}");
    for (text, says) in [
        (String::new(), "[[listener]]"),
        ("\n# nothing\n".into(), "[[listener]]"),
        (with("[servr]\ncores = 1\n"), "did you mean \"server\""),
        (with("[server]\ncoers = 1\n"), "did you mean \"cores\""),
        (with("[server]\ncores = []\n"), "cores"),
        (with("[limits]\nbody = true\n"), "must be a string"),
        (with("[limits]\nbody = \"1KiB\"\nbody = \"2KiB\"\n"), "duplicate"),
        (with("[limits]\n[limits]\n"), "duplicate"),
        (with("[[route]]\npath = \"/x\"\ncluster = \"ap\"\n"), "did you mean \"app\""),
        (
            with("[[route]]\nlistener = \"wbe\"\ncluster = \"app\"\n"),
            "no listener is called \"wbe\"",
        ),
        (with("[[route]]\nname = \"a b\"\ncluster = \"app\"\n"), "name"),
        (
            with(
                "[[route]]\nname = \"x\"\npath = \"/1\"\ncluster = \"app\"\n[[route]]\nname = \"x\"\npath = \"/2\"\ncluster = \"app\"\n",
            ),
            "two routes are called",
        ),
        (
            "http {\n  server {\n    listen 80;\n    location / { proxy_pass http://a; }\n  }\n}\n"
                .into(),
            "nginx",
        ),
        ("a: b\nc:\n  - d\n".into(), "TOML"),
        (format!("x = {}1{}\n", "[".repeat(2000), "]".repeat(2000)), "error"),
    ] {
        refused(driver, text, says);
    }
    // With a mark of byte order it is the same; in another coding, or too large, it is none.
    let marked = File::of([&b"\xef\xbb\xbf"[..], GOOD.as_bytes()].concat());
    assert_eq!(marked.check().0, 0);
    refused(driver, b"\xff\xfe[\0a\0]\0", "UTF-16");
    refused(driver, [GOOD.as_bytes(), b"# \xc3\x28\n"].concat(), "UTF-8");
    refused(driver, vec![b'#'; 11 << 20], "at most");
    let none = program().args(["run", "/nowhere/millrace.toml"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
}

fn o02_what_overlaps(driver: Driver) {
    let second = "[[listener]]\nname = \"two\"\naddress = \"0.0.0.0:18443\"\n";
    let first = GOOD.replace("127.0.0.1:0", "127.0.0.1:18443");
    refused(driver, format!("{first}{second}"), "on line 1");
    refused(
        driver,
        format!("{GOOD}[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n"),
        "on line 1",
    );
    refused(
        driver,
        format!(
            "{GOOD}[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"127.0.0.1:2\"\n"
        ),
        "app",
    );
    // What never matches is a warning.
    let (code, report) = File::of(format!("{GOOD}[[route]]\nrespond = {{}}\n")).check();
    assert!(
        code == 0 && report.contains("never matches") && report.contains("line 9"),
        "{code} {report}"
    );
    let contested =
        "[[route]]\npath = \"~^/a\"\nrespond = {}\n[[route]]\npath = \"~^/a/?b\"\nrespond = {}\n";
    let (code, report) = File::of(format!("{GOOD}{contested}")).check();
    assert!(code == 0 && report.contains("both match"), "{code} {report}");
}

/// Several files, one of them reads the environment; what is wrong is shown where it stands.
fn o02_included_files(driver: Driver) {
    let (origin, log) = (Origin::echo(), temporary("log"));
    let folder = temporary("conf");
    std::fs::create_dir_all(folder.join("conf.d")).unwrap();
    let main = folder.join("main.toml");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write(
        "main.toml",
        "include = [\"conf.d/*.toml\"]\n[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n",
    );
    let app = "[[cluster]]\nname = \"app\"\nhealth = { type = \"off\" }\n[[cluster.endpoint]]\naddress = \"${ORIGIN}\"\n\
               [[route]]\ncluster = \"app\"\n[access_log]\npath = \"../access.log\"\n";
    write("conf.d/app.toml", app);
    write("conf.d/none.txt", "not read");
    let check = |origin: &str| {
        told(&program().arg("check").arg(&main).env("ORIGIN", origin).output().unwrap())
    };
    assert_eq!(check(&origin.address.to_string()).0, 0);
    let (code, unset) = told(&program().arg("check").arg(&main).output().unwrap());
    assert!(
        code == 2 && unset.contains("app.toml:5:11") && unset.contains("no variable ORIGIN"),
        "{unset}"
    );
    let proxy = Proxy::of_file(driver, &main, &[("ORIGIN", &origin.address.to_string())]);
    assert_eq!(proxy.get("/x").status, 200);
    write("conf.d/more.toml", "[[route]]\npath = \"/new\"\nrespond = { status = 204 }\n");
    proxy.signal("HUP");
    until("the new file", || proxy.get("/new").status == 204);
    until("the log beside the main file", || {
        std::fs::read_to_string(folder.join("access.log")).unwrap_or_default().contains("/new")
    });
    // By itself, once it is told to look.
    write("conf.d/watch.toml", "[server]\nwatch = true\n");
    proxy.signal("HUP");
    until("the order to look", || proxy.log().matches("was read again").count() >= 2);
    write("conf.d/new.toml", "[[route]]\npath = \"/watched\"\nrespond = { status = 205 }\n");
    until("what was written", || proxy.get("/watched").status == 205);
    write("conf.d/more.toml", "\n[[route]]\npaht = \"/new\"\n");
    proxy.signal("HUP");
    until("the refusal", || proxy.log().contains("more.toml:3:1"));
    assert_eq!(proxy.get("/new").status, 204, "the old one stays");
    write("main.toml", "include = [\"gone.toml\"]\n");
    assert!(check("").1.contains("there is no file"));
    drop((proxy, log));
    // The environment may say which; a link that leads nowhere is not passed over in silence.
    write("conf.d/more.toml", "");
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    write("main.toml", &format!("include = [\"${{PART:-conf.d}}/*.toml\"]\n{listener}"));
    assert_eq!(check(&origin.address.to_string()).0, 0);
    std::os::unix::fs::symlink("nowhere", folder.join("conf.d/z.toml")).unwrap();
    let (code, broken) = check(&origin.address.to_string());
    assert!(code == 2 && broken.contains("z.toml"), "{broken}");
    // A folder's own name is no pattern.
    std::fs::create_dir_all(folder.join("a[1]")).unwrap();
    write("a[1]/main.toml", &format!("include = [\"*.part\"]\n{listener}"));
    write("a[1]/one.part", "[[rout]]\n");
    let odd = told(&program().arg("check").arg(folder.join("a[1]/main.toml")).output().unwrap());
    assert!(odd.0 == 2 && odd.1.contains("one.part:1:3"), "{}", odd.1);
    let _ = std::fs::remove_dir_all(&folder);
}

fn o03_numbers(driver: Driver) {
    for (table, says) in [
        ("[timeouts]\nconnect = \"0s\"\n", "zero"),
        ("[timeouts]\nconnect = \"-1s\"\n", "connect"),
        ("[timeouts]\nconnect = \"5\"\n", "connect"),
        ("[timeouts]\nconnect = 5\n", "string"),
        ("[timeouts]\nconnect = \"100000000000000000000s\"\n", "connect"),
        ("[timeouts]\nconnect = \"1e3s\"\n", "connect"),
        ("[limits]\nconnections = -1\n", "connections"),
        ("[limits]\nbody = \"-1KiB\"\n", "body"),
        ("[limits]\nbody = \"99999999999TiB\"\n", "body"),
        ("[cache]\nmemory = \"1KiB\"\n", "1MiB"),
        ("[server]\ncores = \"5-2\"\n", "cores"),
        ("[http2]\nwindow = \"4GiB\"\n", "window"),
    ] {
        refused(driver, format!("{GOOD}{table}"), says);
    }
    // More connections than there are descriptors is a warning, and the process serves.
    let origin = Origin::echo();
    let config = GOOD.replace("127.0.0.1:1", &origin.address.to_string());
    let proxy =
        Proxy::run(driver, &format!("{config}[limits]\nconnections = 1000000\n"), &[], Some(256));
    assert_eq!(proxy.get("/x").status, 200);
    assert!(proxy.log().contains("open files"), "{}", proxy.log());
}

fn o04_loops(driver: Driver) {
    let own = GOOD
        .replace("127.0.0.1:0", "127.0.0.1:18444")
        .replace("127.0.0.1:1\"", "127.0.0.1:18444\"");
    refused(driver, own, "go round");
    let admin = format!(
        "[admin]\naddress = \"127.0.0.1:18445\"\n{}",
        GOOD.replace("127.0.0.1:1\"", "127.0.0.1:18445\"")
    );
    refused(driver, admin, "admin listener");
}

fn o05_certificates(driver: Driver) {
    let authority = Authority::new();
    let (one, other) =
        (authority.pair(&["a.example"], Flaw::None), authority.pair(&["b.example"], Flaw::None));
    let expired = authority.pair(&["c.example"], Flaw::Expired);
    let with = |certificate: &std::path::Path, key: &std::path::Path| {
        let pair = format!(
            "{{ certificate = \"{}\", key = \"{}\" }}",
            certificate.display(),
            key.display()
        );
        GOOD.replacen(
            "[[cluster]]",
            &format!("tls = {{ certificates = [{pair}] }}\n[[cluster]]"),
            1,
        )
    };
    let driver = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
    let refused = |text: String, says: &str| {
        let file = File::of(text);
        let (code, report) = file.check();
        assert!(code == 2 && report.contains(says), "no {says:?} in {report}");
        let ran =
            program().args(["run", "--driver", driver, "--config"]).arg(&file.0).output().unwrap();
        assert_ne!(ran.status.code(), Some(0));
    };
    refused(with(&one.certificate, &other.key), "key");
    refused(with(std::path::Path::new("/nowhere.pem"), &one.key), "/nowhere.pem");
    refused(with(&one.key, &one.key), "certificate");
    let (code, report) = File::of(with(&expired.certificate, &expired.key)).check();
    assert!(code == 0 && report.contains("expired"), "{code} {report}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&one.key, mode).unwrap();
    let (code, report) = File::of(with(&one.certificate, &one.key)).check();
    assert!(
        code == 0 && report.contains("read by"),
        "a key that all may read is a warning: {code} {report}"
    );
}

fn o06_expressions(driver: Driver) {
    let origin = Origin::echo();
    let config = GOOD.replace("127.0.0.1:1\"", &format!("{}\"", origin.address));
    let bomb = "[[route]]\npath = \"~^/(a+)+$\"\nrespond = { status = 204 }\n";
    let proxy = Proxy::run(driver, &format!("{config}{bomb}"), &[], None);
    let time = |path: &str| {
        let begun = Instant::now();
        assert!(matches!(proxy.get(path).status, 200 | 204));
        begun.elapsed()
    };
    // A backtracking engine would need 2^4000 steps.
    let (plain, bomb) = (time("/x"), time(&format!("/{}b", "a".repeat(4000))));
    assert!(bomb < plain + Duration::from_millis(250), "{plain:?} {bomb:?}");
    assert_eq!(proxy.get("/aaaa").status, 204);
    refused(
        driver,
        format!("{GOOD}[[route]]\npath = \"~(?:a{{1000}}){{1000}}\"\nrespond = {{}}\n"),
        "expression",
    );
}

/// What `check` takes `run` serves, and what it refuses `run` refuses, with the same exit code.
fn o07_mutations(driver: Driver) {
    let text = std::fs::read_to_string("config.example.toml")
        .unwrap()
        .replace("127.0.0.1:8080", "127.0.0.1:0");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |most: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % most as u64).unwrap()
    };
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') && !line.is_empty())
        .collect();
    let name = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
    let mut verdicts = [0, 0];
    for round in 0..60 {
        let mut mutated: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for _ in 0..=random(2) {
            let at = random(mutated.len());
            match random(5) {
                0 => drop(mutated.remove(at)),
                1 => mutated[at] = mutated[at].replace('=', ""),
                2 => mutated[at] = mutated[at].replacen('"', "\"x", 1),
                3 => mutated[at] = mutated[at].chars().rev().collect(),
                _ => {
                    let line = mutated[at].clone();
                    mutated.insert(at, line);
                }
            }
        }
        let file = File::of(mutated.join("\n"));
        let (checked, report) = file.check();
        let mut child = program()
            .args(["run", "--driver", name, "--cores", "1", "--config"])
            .arg(&file.0)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines =
            std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        let serves = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on"));
        let _ = child.kill();
        let code = child.wait().unwrap().code();
        verdicts[usize::from(serves)] += 1;
        assert_eq!(
            checked == 0,
            serves,
            "{round}: check says {checked}, run {code:?}\n{report}\n{}",
            mutated.join("\n")
        );
    }
    assert!(verdicts.iter().all(|count| *count >= 5), "{verdicts:?}");
}
