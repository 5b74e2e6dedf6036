//! Floor 12: the command line. `proxy` becomes the configuration that it stands for, so that there
//! is one way into the program.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::admin::{Admin, AdminAddress};
use crate::config::model::{Balance, Config, Cores, Driver, LogShape};
use crate::config::units;
use crate::net::listener;
use crate::operate::Operate;

/// A reverse proxy for Linux: one thread per core, io_uring underneath.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: CliCommand,
}

const EXAMPLES: &str = "Examples:
  millrace demo                                        see it work, with nothing to set up
  millrace proxy --to 127.0.0.1:3000                   put it in front of a server
  millrace example > millrace.toml                     a configuration to begin with
  millrace check millrace.toml                         is it right?
  millrace run millrace.toml                           run it
  millrace status                                      how is it?";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Start three small servers and a proxy in front of them
    #[command(after_help = "Examples:
  millrace demo
  millrace demo --listen 127.0.0.1:9000 --cores 1")]
    Demo(Demo),
    /// Proxy to servers without a configuration file
    #[command(after_help = "Examples:
  millrace proxy --to 127.0.0.1:3001 --to 127.0.0.1:3002
  millrace proxy --listen 0.0.0.0:80 --to app.internal:3000,weight=3 --to [::1]:3001
  millrace proxy --to unix:/run/app.sock --access-log - --cores 2
  millrace proxy --to 127.0.0.1:3001 --cache 256MiB
  millrace proxy --to 127.0.0.1:3001 --tls-self-signed
  millrace proxy --to https://api.example.com
  millrace proxy --to 127.0.0.1:3001 --print-config > millrace.toml")]
    Proxy(Proxy),
    /// Run a configuration file
    #[command(after_help = "Examples:
  millrace run millrace.toml
  millrace run millrace.toml --cores 0,2-5 --driver epoll --log-format json")]
    Run(Run),
    /// Say everything that is wrong with a configuration file (exit code 0: good, 2: bad)
    #[command(after_help = "Example:\n  millrace check millrace.toml")]
    Check {
        /// The file
        file: PathBuf,
        /// Look at the file alone: not whether its ports and folders can be had just now
        #[arg(long)]
        file_only: bool,
    },
    /// Print a configuration with every key explained
    #[command(after_help = "Example:\n  millrace example > millrace.toml")]
    Example,
    /// Print a JSON Schema of configurations, by which editors complete and explain keys
    #[command(
        after_help = "Example:\n  millrace schema > millrace.schema.json   # and \"#:schema ./millrace.schema.json\" as \
                            the first line of a file"
    )]
    Schema,
    /// Look at this machine, and at a file: what keeps a proxy from its best, and what to do (exit code 1: it cannot serve)
    #[command(after_help = "Examples:\n  millrace doctor\n  millrace doctor millrace.toml")]
    Doctor {
        /// The file
        file: Option<PathBuf>,
    },
    #[command(flatten)]
    Operate(Operate),
}

/// How to run.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// Cores to run on: all, a number of them, or a list such as 0,2-5
    #[arg(long, value_name = "N|LIST|all", value_parser = parse_cores)]
    pub cores: Option<CoresArg>,
    /// What waits for I/O
    #[arg(long, value_enum)]
    pub driver: Option<DriverArg>,
    /// Admin listener: unix:PATH or IP:PORT; goes before the one of the file
    #[arg(long, value_name = "ADDRESS", value_parser = units::admin_address)]
    pub admin: Option<AdminAddress>,
    /// How messages on standard error are written, instead of server.log_format
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormatArg>,
}

/// `--log-format`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormatArg {
    /// A time, a level and a sentence
    Text,
    /// A JSON object a line, for collectors
    Json,
}

/// `--cores` as it was written, known to be right.
#[derive(Clone, Debug)]
pub struct CoresArg(pub String, pub Cores);

/// `--driver`
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DriverArg {
    /// io_uring if it is there, else epoll
    Auto,
    #[value(name = "io_uring")]
    IoUring,
    Epoll,
}

/// `millrace demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Where the proxy listens
    #[arg(long, default_value = LISTEN, value_parser = parse_listen)]
    pub listen: String,
    /// Where it listens for HTTPS, with a certificate from an authority of this machine's own; or off
    #[arg(long, value_name = "IP:PORT|off", default_value = LISTEN_TLS, value_parser = parse_tls_listen)]
    pub listen_tls: String,
    /// Where its dashboard is, unless --admin says so; or off
    #[arg(long, value_name = "IP:PORT|off", default_value = DASHBOARD, value_parser = parse_tls_listen)]
    pub dashboard: String,
    #[command(flatten)]
    pub how: RunOptions,
}

impl Demo {
    /// Where its dashboard can be: nowhere, if another program has the usual place and no other was asked for.
    #[must_use]
    pub fn free_dashboard(&self) -> String {
        let is_taken = |place: &str| place.parse().is_ok_and(|at| listener::probe(at).is_err());
        if self.dashboard == DASHBOARD && is_taken(DASHBOARD) {
            "off".to_owned()
        } else {
            self.dashboard.clone()
        }
    }
}

/// `millrace proxy`
#[derive(Debug, Args)]
pub struct Proxy {
    /// Address to listen on; may be repeated [default: 127.0.0.1:8080, or 127.0.0.1:8443 with TLS]
    #[arg(long, value_name = "IP:PORT", value_parser = parse_listen)]
    pub listen: Vec<String>,
    /// Speak HTTPS, with a certificate for these names from an authority of this machine's own
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        num_args = 0..=1,
        default_missing_value = "localhost,127.0.0.1,::1"
    )]
    pub tls_self_signed: Option<Vec<String>>,
    /// A server to forward to.
    #[arg(
        long,
        help = "Server to forward to: host:port, [v6]:port, unix:PATH, or https://host[:port] for TLS, \
                verified; may be repeated",
        value_name = "ADDRESS[,weight=N]",
        required = true,
        value_parser = parse_to
    )]
    pub to: Vec<ToServer>,
    /// How a server is chosen
    #[arg(long, value_name = "NAME", default_value = "round_robin", value_parser = parse_balance)]
    pub balance: String,
    /// How servers are checked: a path to GET, tcp to connect only, or off
    #[arg(long, value_name = "PATH|tcp|off", default_value = "tcp", value_parser = parse_health)]
    pub health: String,
    #[command(flatten)]
    pub how: RunOptions,
    /// Cache responses, as HTTP allows it, in so much memory
    #[arg(long, value_name = "SIZE", value_parser = parse_cache)]
    pub cache: Option<String>,
    /// A folder in which the cache survives restarts
    #[arg(long, value_name = "FOLDER", requires = "cache")]
    pub cache_disk: Option<String>,
    /// Where the access log goes: a path, - for standard output, or off
    #[arg(long, value_name = "PATH|-|off", default_value = "off")]
    pub access_log: String,
    /// Print the equivalent configuration file and end
    #[arg(long)]
    pub print_config: bool,
}

/// `millrace run`
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration file
    #[arg(value_name = "FILE", required_unless_present = "config")]
    file: Option<PathBuf>,
    /// The same by name
    #[arg(long, short, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    #[command(flatten)]
    pub how: RunOptions,
}

impl Run {
    /// The configuration file, whichever way it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.as_deref().or(self.config.as_deref()).unwrap_or_else(|| Path::new(""))
    }
}

/// `--to`
#[derive(Clone, Debug)]
pub struct ToServer {
    address: String,
    weight: u32,
    /// It was written as `https://…`.
    is_secure: bool,
}

impl RunOptions {
    /// What the command line says goes before what the file says.
    pub fn apply(&self, config: &mut Config) {
        if let Some(CoresArg(_, cores)) = &self.cores {
            config.server.cores = cores.clone();
        }
        if let Some(driver) = self.driver {
            config.server.driver = match driver {
                DriverArg::Auto => Driver::Auto,
                DriverArg::IoUring => Driver::IoUring,
                DriverArg::Epoll => Driver::Epoll,
            };
        }
        match self.log_format {
            None => {}
            Some(LogFormatArg::Text) => config.server.log_format = LogShape::Text,
            Some(LogFormatArg::Json) => config.server.log_format = LogShape::Json,
        }
        if let Some(address) = &self.admin {
            let token = config.admin.take().and_then(|admin| admin.token);
            config.admin = Some(Admin { address: address.clone(), token });
        }
    }

    fn write(&self, text: &mut String) {
        let cores = self.cores.as_ref().map_or("all", |cores| cores.0.as_str());
        let driver = match self.driver {
            None | Some(DriverArg::Auto) => "auto",
            Some(DriverArg::IoUring) => "io_uring",
            Some(DriverArg::Epoll) => "epoll",
        };
        let _ = writeln!(text, "[server]\ncores = \"{cores}\"\ndriver = \"{driver}\"");
        if let Some(admin) = &self.admin {
            let _ = writeln!(text, "\n[admin]\naddress = {}", quoted(&admin.to_string()));
        }
    }
}

impl Proxy {
    /// Whether its servers can be one cluster.
    ///
    /// # Errors
    /// Some are to be reached by TLS and some are not.
    pub fn check_servers(&self) -> Result<(), String> {
        let secure = self.to.iter().filter(|to| to.is_secure).count();
        if secure == 0 || secure == self.to.len() {
            return Ok(());
        }
        Err("some servers are written as https:// and some are not: all servers of one proxy are \
             reached alike. Write https:// before each, or a file with a cluster for each kind \
             (--print-config with servers of one kind makes a beginning)"
            .to_owned())
    }

    /// The configuration file that these arguments stand for.
    #[must_use]
    pub fn configuration(&self) -> String {
        let mut text = String::new();
        self.how.write(&mut text);
        let default = if self.tls_self_signed.is_some() { LISTEN_TLS } else { LISTEN };
        let listens =
            if self.listen.is_empty() { vec![default.to_owned()] } else { self.listen.clone() };
        for (at, listen) in listens.iter().enumerate() {
            let number = if at == 0 { String::new() } else { format!("-{}", at + 1) };
            let _ =
                writeln!(text, "\n[[listener]]\nname = \"web{number}\"\naddress = \"{listen}\"");
            if let Some(names) = &self.tls_self_signed {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                let _ = writeln!(text, "tls = {{ self_signed = [{}] }}", names.join(", "));
            }
        }
        let _ = writeln!(text, "\n[[cluster]]\nname = \"app\"\nbalance = \"{}\"", self.balance);
        let _ = match self.health.as_str() {
            word @ ("off" | "tcp") => writeln!(text, "health = {{ type = \"{word}\" }}"),
            path => writeln!(text, "health = {{ path = {} }}", quoted(path)),
        };
        if self.to.iter().any(|to| to.is_secure) {
            // Verified by the name of the server, which is also the name that it is asked for.
            text.push_str("tls = { verify = true }\nhost = \"endpoint\"\n");
        }
        for to in &self.to {
            let _ = writeln!(text, "[[cluster.endpoint]]\naddress = {}", quoted(&to.address));
            if to.weight != 1 {
                let _ = writeln!(text, "weight = {}", to.weight);
            }
        }
        let _ = writeln!(text, "\n[[route]]\nhost = \"*\"\npath = \"/\"\ncluster = \"app\"");
        if let Some(size) = &self.cache {
            let _ = writeln!(text, "cache = true\n\n[cache]\nmemory = \"{size}\"");
            if let Some(folder) = &self.cache_disk {
                let _ = writeln!(text, "disk = {}", quoted(folder));
            }
        }
        if self.access_log != "off" {
            let path = quoted(&self.access_log);
            let _ = writeln!(text, "\n[access_log]\npath = {path}\nformat = \"json\"");
        }
        text
    }
}

const LISTEN: &str = "127.0.0.1:8080";
const LISTEN_TLS: &str = "127.0.0.1:8443";
const DASHBOARD: &str = "127.0.0.1:9901";

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

fn parse_cores(text: &str) -> Result<CoresArg, String> {
    units::cores(text).map(|cores| CoresArg(text.to_owned(), cores))
}

fn parse_listen(text: &str) -> Result<String, String> {
    units::listen(text).map(|address| address.to_string())
}

fn parse_tls_listen(text: &str) -> Result<String, String> {
    if text == "off" { Ok(text.to_owned()) } else { parse_listen(text) }
}

fn parse_balance(text: &str) -> Result<String, String> {
    let names = Balance::NAMES.map(|(name, _)| name);
    if names.contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("there are: {}", names.join(", ")))
    }
}

fn parse_cache(text: &str) -> Result<String, String> {
    match units::size(text)? {
        0..1_048_576 => Err("a cache takes at least 1MiB".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

fn parse_health(text: &str) -> Result<String, String> {
    if text.starts_with('/') || ["tcp", "off"].contains(&text) {
        Ok(text.to_owned())
    } else {
        Err("write a path such as /health, or tcp, or off".to_owned())
    }
}

fn parse_to(text: &str) -> Result<ToServer, String> {
    let (address, weight) = match text.rsplit_once(",weight=") {
        Some((address, weight)) => {
            let number = weight.parse::<u32>().ok().filter(|weight| (1..=1000).contains(weight));
            (address, number.ok_or_else(|| format!("weight \"{weight}\" is not from 1 to 1000"))?)
        }
        None => (text, 1),
    };
    let (address, is_secure) = units::origin(address)?;
    Ok(ToServer { address, weight, is_secure })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lower::lower;
    use crate::config::model::{Health, HttpProbe, Probe};
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn https_without_files_is_one_word() {
        let parse = |arguments: &[&str]| {
            let all = ["millrace", "proxy", "--to", "127.0.0.1:3"].iter().chain(arguments);
            let CliCommand::Proxy(proxy) = Cli::parse_from(all).command else { panic!("no proxy") };
            let text = proxy.configuration();
            lower(&text).0.unwrap_or_else(|| panic!("{text}"))
        };
        let listener = parse(&["--tls-self-signed"]).listeners.remove(0);
        assert_eq!(listener.address.to_string(), "127.0.0.1:8443");
        assert_eq!(listener.tls.unwrap().self_signed, ["localhost", "127.0.0.1", "::1"]);
        for word in [&["--tls-self-signed=a.example"][..], &["--tls-self-signed", "a.example"]] {
            let listener = parse(word).listeners.remove(0);
            assert_eq!(listener.tls.unwrap().self_signed, ["a.example"]);
        }
        assert_eq!(parse(&[]).listeners[0].address.to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn servers_may_be_written_as_urls() {
        let parse = |all: &[&str]| {
            let words = ["millrace", "proxy"].iter().chain(all);
            let CliCommand::Proxy(proxy) =
                Cli::try_parse_from(words).map_err(|e| e.to_string())?.command
            else {
                panic!("no proxy")
            };
            proxy.check_servers()?;
            let text = proxy.configuration();
            Ok::<_, String>(lower(&text).0.unwrap_or_else(|| panic!("{text}")).clusters.remove(0))
        };
        let cluster =
            parse(&["--to", "https://api.example", "--to", "https://b.example:8443/"]).unwrap();
        assert!(cluster.tls.unwrap().verify);
        let found: Vec<String> =
            cluster.endpoints.iter().map(|one| one.address.to_string()).collect();
        assert_eq!(found, ["api.example:443", "b.example:8443"]);
        let cluster = parse(&["--to", "http://a.example"]).unwrap();
        assert!(cluster.tls.is_none());
        assert_eq!(cluster.endpoints[0].address.to_string(), "a.example:80");
        let wrong = parse(&["--to", "https://a.example/base"]).unwrap_err();
        assert!(wrong.contains("rewrite = { add_prefix"), "{wrong}");
        let wrong = parse(&["--to", "https://a.example", "--to", "http://b.example"]).unwrap_err();
        assert!(wrong.contains("https"), "{wrong}");
        assert!(parse(&["--to", "a.example"]).unwrap_err().contains("has no port"));
    }

    #[test]
    fn a_file_is_named_either_way() {
        let path = |all: &[&str]| match Cli::try_parse_from(all).map(|cli| cli.command) {
            Ok(CliCommand::Run(run)) => Some(run.path().to_owned()),
            _ => None,
        };
        assert_eq!(path(&["millrace", "run", "a.toml"]), Some("a.toml".into()));
        assert_eq!(path(&["millrace", "run", "--config", "a.toml"]), Some("a.toml".into()));
        assert_eq!(path(&["millrace", "run", "-c", "a.toml"]), Some("a.toml".into()));
        assert_eq!(path(&["millrace", "run"]), None);
        assert_eq!(path(&["millrace", "run", "a", "--config", "b"]), None);
    }

    #[test]
    fn proxy_is_the_configuration_that_it_prints() {
        let arguments = [
            "millrace",
            "proxy",
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "[::1]:2",
            "--to",
            "127.0.0.1:3,weight=5",
            "--to",
            "unix:/a \"b\"",
            "--cores",
            "0,1",
            "--balance",
            "random",
            "--access-log",
            "-",
            "--health",
            "/up",
        ];
        let CliCommand::Proxy(proxy) = Cli::parse_from(arguments).command else {
            panic!("no proxy")
        };
        let text = proxy.configuration();
        let (config, problems) = lower(&text);
        let config = config.unwrap_or_else(|| panic!("{}", problems.render("printed", &text)));
        assert_eq!(config.listeners.len(), 2);
        assert_eq!(config.clusters[0].endpoints[0].weight, 5);
        assert_eq!(config.clusters[0].endpoints[1].address.to_string(), "unix:/a \"b\"");
        assert_eq!(config.server.cores, Cores::These(vec![0, 1]));
        assert!(config.access_log.is_some());
        assert_eq!(
            config.clusters[0].health,
            Some(Health::new(Probe::Http(HttpProbe::new("/up"))))
        );
    }
}
