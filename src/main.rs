//! Arguments to configuration to `control::run`; no logic.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use crossbeam_channel::Receiver;
use millrace::admin;
use millrace::base::limits::NOTICES_PATIENCE;
use millrace::cli::{Cli, CliCommand, Demo, Proxy, Run, RunOptions};
use millrace::config::model::Config;
use millrace::config::schema;
use millrace::control::reload::ConfigSource;
use millrace::control::{self, Inputs, doctor, load};
use millrace::demo;
use millrace::net::signal::{self, Signal};
use millrace::net::{handover, notice};
use millrace::operate::process::CommandFailure;
use millrace::operate::{ExplainArgs, Operate};

/// The reference manual, embedded.
const EXAMPLE: &str = include_str!("../config.example.toml");

fn main() -> ExitCode {
    handover::remember_program();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    match cli.command {
        CliCommand::Demo(arguments) => run_demo(&arguments),
        CliCommand::Proxy(arguments) => run_proxy(&arguments),
        CliCommand::Run(arguments) => match load::file(arguments.path()) {
            Ok(verdict) => {
                let again = |other: Option<&Path>| {
                    read_again(&arguments, other.unwrap_or_else(|| arguments.path()))
                };
                run(
                    verdict,
                    &arguments.how,
                    &signal::listen(),
                    (Some(&again), Some(arguments.path())),
                    "",
                )
            }
            Err(message) => {
                handover::Inherited::take().refuses(&message);
                refuse(&message)
            }
        },
        CliCommand::Check { file, file_only } => check(&file, file_only),
        CliCommand::Doctor { file } => examine(file.as_deref()),
        CliCommand::Operate(Operate::Explain(asked)) if asked.config.is_some() => explain(&asked),
        CliCommand::Operate(command) => match command.run() {
            Ok(text) => {
                print(&text);
                ExitCode::SUCCESS
            }
            Err(CommandFailure::Refused(why)) => {
                notice::error(why);
                ExitCode::FAILURE
            }
            Err(CommandFailure::NotAsked(why)) => refuse(&why),
        },
        CliCommand::Schema => {
            print(&format!("{:#}\n", schema::schema(EXAMPLE)));
            ExitCode::SUCCESS
        }
        CliCommand::Example => {
            print(EXAMPLE);
            ExitCode::SUCCESS
        }
    }
}

/// Says what is wrong with the command line; a value that may have a password in it is not shown.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let has_secret = text(ContextKind::InvalidValue).contains(['@', '?']);
    if error.kind() == ErrorKind::ValueValidation && has_secret {
        let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        return refuse(&format!("{}: {why}", text(ContextKind::InvalidArg)));
    }
    // Help and the version are no errors.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The configuration as it is in its file now, with what the command line says.
fn read_again(arguments: &Run, file: &Path) -> Result<Config, String> {
    let verdict = load::file(file)?;
    let Some(mut config) = verdict.config else { return Err(verdict.report) };
    notice::report(&verdict.report);
    arguments.how.apply(&mut config);
    Ok(config)
}

fn run(
    verdict: load::CheckedConfig,
    how: &RunOptions,
    signals: &Receiver<Signal>,
    (source, file): (Option<&ConfigSource<'_>>, Option<&Path>),
    hint: &str,
) -> ExitCode {
    let _ = write!(std::io::stderr(), "{}", verdict.report);
    let Some(mut config) = verdict.config else {
        handover::Inherited::take().refuses(&verdict.report);
        return refuse("the configuration is refused");
    };
    how.apply(&mut config);
    notice::shape(config.server.log_format, config.server.log_level);
    notice::start();
    let hint = hint.to_owned();
    let stamp = file.map(|file| || load::stamp(file));
    let stamp = stamp.as_ref().map(|stamp| stamp as &dyn Fn() -> u64);
    let inputs = Inputs { signals, orders: &crossbeam_channel::never(), source, stamp };
    let ended = control::run(config, &inputs, move |ready| {
        notice::note(ready);
        // The coordinator must not wait for a reader of standard output.
        let _ = std::thread::Builder::new().spawn(move || print(&hint));
    });
    notice::end(NOTICES_PATIENCE);
    ended
}

fn run_proxy(arguments: &Proxy) -> ExitCode {
    if let Err(message) = arguments.check_servers() {
        return refuse(&message);
    }
    let text = arguments.configuration();
    if arguments.print_config {
        print(&text);
        return ExitCode::SUCCESS;
    }
    run(load::check("(command line)", &text), &arguments.how, &signal::listen(), (None, None), "")
}

fn run_demo(arguments: &Demo) -> ExitCode {
    // Before any thread is started: they all inherit that signals are not theirs.
    let signals = signal::listen();
    let servers = match demo::start() {
        Ok(servers) => servers,
        Err(error) => return refuse(&format!("the demo's servers cannot start: {error}")),
    };
    let secure = Some(arguments.listen_tls.as_str()).filter(|listen| *listen != "off");
    let admin = arguments.how.admin.as_ref().map(ToString::to_string);
    let admin = admin.unwrap_or_else(|| arguments.free_dashboard());
    let text = demo::configuration(&arguments.listen, secure, &admin, &servers);
    let dashboard = match admin.parse::<std::net::SocketAddr>() {
        Ok(address) => format!(
            "The operator's view is http://{address}/ (and `millrace top --admin {address}`).\n\n"
        ),
        Err(_) => String::new(),
    };
    let url = format!("http://{}", arguments.listen);
    let secure = secure.map_or_else(String::new, |listen| {
        format!(
            "\x20 curl -k https://{listen}/               # HTTPS; its authority is named above\n"
        )
    });
    let hint = format!(
        "\nOpen {url}/ in a browser, or try this in another terminal:\n\
         \x20 curl {url}/                             # ask again: three servers take turns  \n\
         \x20 curl -i -d hello {url}/echo             # what you send comes back\n\
         \x20 curl -N '{url}/sse?n=5&ms=500'          # events, as they happen\n\
         \x20 curl -i '{url}/cached?s=10'              # ask again: fresh for 10 s, see Cache-Status\n\
         {secure}\
         Also: /slow?ms=  /bytes?n=  /chunked  /status/404  /ws\n\n\
         {dashboard}\
         Stop one of the three, and see that no client notices:\n\
         \x20 while sleep 0.1; do curl -s -o /dev/null -w '%{{http_code}} ' {url}/; done\n\
         \x20 curl 'http://{}/stop?s=10'      # in a third terminal: gone for 10 s, then back\n\n\
         This is what runs (save it, edit it, `millrace run FILE`):\n\n{text}\n\
         Ctrl-C ends it.\n",
        servers.origins[0]
    );
    run(load::check("(demo)", &text), &arguments.how, &signals, (None, None), &hint)
}

fn check(file: &Path, file_only: bool) -> ExitCode {
    let verdict = match load::file(file) {
        Ok(verdict) => verdict,
        Err(message) => return refuse(&message),
    };
    print(&verdict.report);
    let shown = file.display();
    let config = verdict.config.as_ref().filter(|_| !file_only);
    let found = config.map(control::machine::objections).unwrap_or_default();
    let (objections, warnings) = found;
    objections.iter().for_each(|objection| print(&format!("error: {objection}\n")));
    warnings.iter().for_each(|warning| print(&format!("warning: {warning}\n")));
    let count = verdict.problems + objections.len() + warnings.len();
    let plural = if count == 1 { "" } else { "s" };
    let is_good = verdict.config.is_some() && objections.is_empty();
    match count {
        _ if !is_good => print(&format!("{shown}: refused, {count} problem{plural}\n")),
        0 => print(&format!("{shown}: good\n")),
        _ => print(&format!("{shown}: good, with {count} warning{plural}\n")),
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

fn examine(file: Option<&Path>) -> ExitCode {
    let found = doctor::examine(file);
    found.iter().for_each(|finding| print(&format!("{finding}\n")));
    let is_bad = found.iter().any(|finding| finding.grade == doctor::Grade::Bad);
    if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// By a file alone: nothing has to run.
fn explain(asked: &ExplainArgs) -> ExitCode {
    let Some(file) = &asked.config else { return refuse("no file") };
    let verdict = match load::file(file) {
        Ok(verdict) => verdict,
        Err(message) => return refuse(&message),
    };
    let Some(config) = verdict.config else {
        print(&verdict.report);
        return refuse("the configuration is refused");
    };
    if asked.url.is_none() {
        return refuse("a file knows no request by its id: write METHOD and URL");
    }
    match admin::explain::explain(&config, None, &asked.question()) {
        Ok(told) if asked.target.json => print(&format!("{told:#}\n")),
        Ok(told) => print(&admin::explain::text(&told)),
        Err(why) => return refuse(&why),
    }
    ExitCode::SUCCESS
}

fn refuse(message: &str) -> ExitCode {
    notice::error(message);
    ExitCode::from(2)
}

/// A closed standard output is no problem.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
