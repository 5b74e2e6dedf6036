//! The program itself, as a child process.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::client::{Client, Reply};
use super::{Driver, Origin, until};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_millrace");

/// A running proxy. Killed when dropped; a proxy that died on its own fails the test.
pub struct Proxy {
    child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
    file: std::path::PathBuf,
    may_panic: bool,
    may_die: bool,
}

impl Proxy {
    /// In front of one origin, with defaults.
    pub fn before(driver: Driver, origin: &Origin) -> Self {
        Self::with(driver, origin, "")
    }

    /// In front of one origin, with more tables. `{origin}` in them is the origin's address; if
    /// they hold no route there is one for everything.
    pub fn with(driver: Driver, origin: &Origin, more: &str) -> Self {
        let more = more.replace("{origin}", &origin.address.to_string());
        let mut text = String::new();
        if !more.contains("[[listener]]") {
            text.push_str("[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n");
        }
        if !more.contains("[[cluster]]") {
            text.push_str(&format!(
                "[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"{}\"\n",
                origin.address
            ));
        }
        if !more.contains("[[route]]") {
            text.push_str("[[route]]\ncluster = \"app\"\n");
        }
        Self::run(driver, &format!("{text}{more}"), &[], None)
    }

    /// With a whole configuration, environment and limit on open files.
    pub fn run(driver: Driver, config: &str, env: &[(&str, &str)], nofile: Option<u32>) -> Self {
        let (config, on_one_core) = completed(config);
        Self::start(driver, Path::new(PROGRAM), &config, on_one_core, env, nofile)
    }

    /// From where its program is installed.
    pub fn installed(driver: Driver, program: &Path, config: &str) -> Self {
        let (config, on_one_core) = completed(config);
        Self::start(driver, program, &config, on_one_core, &[], None)
    }

    /// With a configuration that nothing is added to, on one core.
    pub fn as_written(driver: Driver, config: &str) -> Self {
        Self::start(driver, Path::new(PROGRAM), config, true, &[], None)
    }

    fn start(
        driver: Driver,
        program: &Path,
        config: &str,
        on_one_core: bool,
        env: &[(&str, &str)],
        nofile: Option<u32>,
    ) -> Self {
        let file = temporary("toml");
        std::fs::File::create(&file).unwrap().write_all(config.as_bytes()).unwrap();
        Self::start_of(driver, program, file, on_one_core, env, nofile)
    }

    /// Of a file that the test has written as a whole, on one core.
    pub fn of_file(driver: Driver, file: &Path, env: &[(&str, &str)]) -> Self {
        Self::start_of(driver, Path::new(PROGRAM), file.to_owned(), true, env, None)
    }

    fn start_of(
        driver: Driver,
        program: &Path,
        file: std::path::PathBuf,
        on_one_core: bool,
        env: &[(&str, &str)],
        nofile: Option<u32>,
    ) -> Self {
        let driver = if driver == Driver::IoUring { "io_uring" } else { "epoll" };
        let mut command = match nofile {
            None => Command::new(program),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\"")).arg(program);
                shell
            }
        };
        command.args(["run", "--driver", driver, "--config"]).arg(&file);
        if on_one_core {
            command.args(["--cores", "1"]);
        }
        command.envs(env.iter().copied()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let reader = BufReader::new(child.stderr.take().unwrap());
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                shared.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let mut proxy = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            file,
            may_panic: false,
            may_die: false,
        };
        until("the proxy to listen", || {
            assert!(proxy.child.try_wait().unwrap().is_none(), "it ended: {}", proxy.log());
            proxy.log().contains("listening on")
        });
        proxy.address = proxy.addresses()[0];
        proxy
    }

    /// Writes another configuration.
    pub fn rewrite(&self, config: &str) {
        std::fs::write(&self.file, completed(config).0).unwrap();
    }

    /// Writes another configuration and has it read.
    pub fn reload(&self, config: &str) {
        let says = "the configuration was read again";
        let before = self.log().matches(says).count();
        self.rewrite(config);
        self.signal("HUP");
        until("the configuration to be read", || self.log().matches(says).count() > before);
    }

    /// Every address that it listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains("listening on")).unwrap_or_default();
        line.split("://")
            .skip(1)
            .filter_map(|rest| rest.split([',', ' ']).next()?.parse().ok())
            .collect()
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One GET on a connection of its own.
    pub fn get(&self, path: &str) -> Reply {
        let mut client = self.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        client.reply()
    }

    /// A signal.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// It has ended.
    pub fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut code = None;
        until("the proxy to end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    /// It was killed on purpose.
    pub fn forget_death(&mut self) {
        self.may_die = true;
    }

    /// Panics were asked for.
    pub fn forget_panics(&mut self) {
        self.may_panic = true;
    }

    /// A number from `/proc/PID/status`, in KiB.
    pub fn rss(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Open descriptors.
    pub fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// CPU used so far, in clock ticks.
    pub fn cpu_ticks(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let died = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.file);
        if !std::thread::panicking() {
            let code = died.and_then(|status| status.code());
            assert!(
                self.may_die || died.is_none() || code == Some(0),
                "the proxy died: {}",
                self.log()
            );
            assert!(
                self.may_panic || !self.log().contains("panicked at"),
                "a task panicked: {}",
                self.log()
            );
        } else {
            println!("--- proxy said ---\n{}", self.log());
        }
    }
}

/// What the harness adds where the configuration says nothing of it, read as TOML: one core, and no checks, which
/// would come between the requests that origins count. A faulty configuration stays as it is.
fn completed(config: &str) -> (String, bool) {
    let Ok(root) = toml::de::DeTable::parse(config) else {
        return (config.to_owned(), false);
    };
    let table = |value: &toml::de::DeValue<'_>, key: &str| {
        value.as_table().is_some_and(|table| table.contains_key(key))
    };
    let has_cores = root.get_ref().get("server").is_some_and(|one| table(one.get_ref(), "cores"));
    let clusters = root.get_ref().get("cluster").and_then(|all| all.get_ref().as_array());
    let checked: Vec<bool> =
        clusters.into_iter().flatten().map(|one| table(one.get_ref(), "health")).collect();
    let (mut text, mut at) = (String::new(), 0);
    for line in config.split_inclusive('\n') {
        text.push_str(line);
        if line.trim() == "[[cluster]]" {
            if checked.get(at) == Some(&false) {
                text.push_str("health = { type = \"off\" }\n");
            }
            at += 1;
        }
    }
    (text, !has_cores)
}

/// A file name that no other test uses.
pub fn temporary(extension: &str) -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("millrace-test-{}-{number}.{extension}", std::process::id()))
}
