//! Group J: what an upgrade takes along, and what it does not leave behind.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::j_reload::{Successor, admin, free, is_alive, is_served, listener, rest, upgrade};
use crate::Row;
use crate::support::proxy::temporary;
use crate::support::{Driver, Origin, Proxy, until};

pub fn rows() -> Vec<Row> {
    vec![
        ("j04_a_listener_that_is_gone_is_closed", j04_a_listener_that_is_gone),
        ("j04_what_an_operator_said_goes_along", j04_orders),
        ("j04_the_program_is_the_one_that_is_installed", j04_installed),
        ("j06_an_end_in_the_middle_of_an_upgrade", j06_an_end_in_the_middle),
        ("j06_the_command_says_why", j06_says_why),
    ]
}

fn config(socket: &Path, listeners: &str, origin: &Origin) -> String {
    let served = rest(origin.address).replace("cores = 2", "cores = 2\ndrain = \"2s\"");
    format!("{}{listeners}{served}", admin(socket))
}

/// Its clients are refused, and the port can be had again.
fn j04_a_listener_that_is_gone(driver: Driver) {
    let (origin, socket) = (Origin::echo(), temporary("sock"));
    let (fixed, other) = (free(), free());
    let stays = listener("fixed", &fixed.to_string(), "");
    let both = format!("{stays}{}", listener("other", &other.to_string(), ""));
    let mut proxy = Proxy::run(driver, &config(&socket, &both, &origin), &[], None);
    assert!(is_served(other));
    proxy.rewrite(&config(&socket, &stays, &origin));
    let next = upgrade(&socket).unwrap();
    until("the old process to end", || proxy.is_dead());
    assert_eq!(proxy.wait(), Some(0));
    assert!(TcpStream::connect(other).is_err(), "it would wait there for ever");
    assert!(is_served(fixed));
    proxy.rewrite(&config(&socket, &both, &origin));
    let third = upgrade(&socket).unwrap();
    assert!(is_served(other) && is_served(fixed));
    drop((next, third));
    let _ = std::fs::remove_file(&socket);
}

fn asked(socket: &Path, words: &[&str]) -> serde_json::Value {
    let told = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(words)
        .args(["--json", "--admin", &format!("unix:{}", socket.display())])
        .output()
        .unwrap();
    serde_json::from_slice(&told.stdout).unwrap_or_default()
}

fn j04_orders(driver: Driver) {
    let (origin, other, socket) = (Origin::echo(), Origin::echo(), temporary("sock"));
    let fixed = free();
    let served = config(&socket, &listener("fixed", &fixed.to_string(), ""), &origin).replace(
        "[[route]]",
        &format!("[[cluster.endpoint]]\naddress = \"{}\"\n[[route]]", other.address),
    );
    let proxy = Proxy::run(driver, &served, &[], None);
    until("the admin socket", || socket.exists());
    let address = other.address.to_string();
    assert_eq!(asked(&socket, &["down", "app", &address])["done"], true);
    let next = upgrade(&socket).unwrap();
    let states = asked(&socket, &["status"])["clusters"][0]["endpoints"].clone();
    let duties: Vec<_> = states.as_array().unwrap().iter().map(|one| &one["duty"]).collect();
    assert_eq!(duties, ["ready", "down"]);
    let before = other.requests().len();
    (0..8).for_each(|_| assert!(is_served(fixed)));
    assert_eq!(other.requests().len(), before);
    drop((next, proxy));
    let _ = std::fs::remove_file(&socket);
}

/// By another process: where this one writes a program, a child that another test starts just then holds it open, and
/// it cannot be started ("text file busy").
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// A copy of the program that can be replaced.
struct Installed(PathBuf);

impl Installed {
    fn new() -> Self {
        let path = temporary("program");
        copy(Path::new(env!("CARGO_BIN_EXE_millrace")), &path);
        Self(path)
    }

    fn aside(&self) -> PathBuf {
        self.0.with_extension("aside")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(self.aside());
    }
}

/// It is the one at the path that the old one was started from, also where the old file was renamed.
fn j04_installed(driver: Driver) {
    let (origin, socket, program) = (Origin::echo(), temporary("sock"), Installed::new());
    let fixed = free();
    let served = config(&socket, &listener("fixed", &fixed.to_string(), ""), &origin);
    let proxy = Proxy::installed(driver, &program.0, &served);
    until("the admin socket", || socket.exists());
    std::fs::rename(&program.0, program.aside()).unwrap();
    copy(&program.aside(), &program.0);
    let next = upgrade(&socket).unwrap();
    let runs = std::fs::read_link(format!("/proc/{}/exe", next.0)).unwrap();
    assert_eq!(runs, program.0);
    assert!(is_served(fixed));
    drop((next, proxy));
    let _ = std::fs::remove_file(&socket);
}

/// The order to end is one for the new process too, which does not serve yet.
fn j06_an_end_in_the_middle(driver: Driver) {
    let (origin, socket, program) = (Origin::echo(), temporary("sock"), Installed::new());
    let fixed = free();
    let served = config(&socket, &listener("fixed", &fixed.to_string(), ""), &origin);
    let mut proxy = Proxy::installed(driver, &program.0, &served);
    std::fs::rename(&program.0, program.aside()).unwrap();
    let script = format!("#!/bin/sh\nsleep 2; exec {} \"$@\"\n", program.aside().display());
    let text = temporary("sh");
    std::fs::write(&text, script).unwrap();
    std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    copy(&text, &program.0);
    let _ = std::fs::remove_file(&text);
    proxy.signal("USR2");
    until("the upgrade", || proxy.log().contains("is starting"));
    let log = proxy.log();
    let pid = log.split("upgrade: process ").nth(1).and_then(|rest| rest.split(' ').next());
    let next = Successor(pid.unwrap().parse().unwrap());
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0), "{}", proxy.log());
    until("the new process to end", || !is_alive(next.0));
    assert!(TcpStream::connect(fixed).is_err());
    let _ = std::fs::remove_file(&socket);
}

fn j06_says_why(driver: Driver) {
    let (origin, socket) = (Origin::echo(), temporary("sock"));
    let fixed = listener("fixed", &free().to_string(), "");
    let good = config(&socket, &fixed, &origin);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::run(driver, &good, &[], None);
    until("the admin socket", || socket.exists());
    proxy.rewrite(&good.replace("[server]", "[server]\ncolour = 1"));
    let why = upgrade(&socket).map(|one| one.0).unwrap_err();
    assert!(why.contains("colour") && why.contains("this process goes on"), "{why}");
    let other = listener("other", &taken.local_addr().unwrap().to_string(), "");
    proxy.rewrite(&config(&socket, &format!("{fixed}{other}"), &origin));
    let why = upgrade(&socket).map(|one| one.0).unwrap_err();
    assert!(why.contains("another program listens there"), "{why}");
    let _ = std::fs::remove_file(&socket);
}
