//! Which process is asked, and what comes of asking it.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::base::limits::{ADMIN_PATIENCE, HEIR_PATIENCE};
use crate::config::admin::{AdminAddress, SOCKET};
use crate::config::units;
use crate::net::admin::ask;

/// Which process.
#[derive(Clone, Debug, Args)]
pub struct ProcessArgs {
    /// Its admin listener: unix:PATH or IP:PORT
    #[arg(long, value_name = "ADDRESS", default_value_t = format!("unix:{SOCKET}"), env = "MILLRACE_ADMIN")]
    pub admin: String,
    /// File whose first line is the token that the listener wants
    #[arg(long, value_name = "FILE", env = "MILLRACE_ADMIN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Print the answer as it came, for machines
    #[arg(long)]
    pub json: bool,
}

/// Why a command did nothing.
#[derive(Debug)]
pub enum CommandFailure {
    /// The process could not be asked: exit code 2.
    NotAsked(String),
    /// It said no: exit code 1.
    Refused(String),
}

/// Why the process says no, in its words.
pub(super) fn refusal(status: u16, answer: String) -> String {
    let why = serde_json::from_str::<Value>(&answer).ok();
    let why = why.and_then(|one| Some(one["error"].as_str()?.to_owned())).unwrap_or(answer);
    if status == 401 { format!("{why}; --token-file has it") } else { why }
}

impl ProcessArgs {
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<String, CommandFailure> {
        let (address, token) = self.place()?;
        let patience = match path {
            "/upgrade" => HEIR_PATIENCE + 2 * ADMIN_PATIENCE,
            "/reload" => 7 * ADMIN_PATIENCE,
            _ => 3 * ADMIN_PATIENCE,
        };
        let (status, answer) = ask(&address, method, path, token.as_deref(), body, patience)
            .map_err(|error| CommandFailure::NotAsked(not_asked(&address, &error)))?;
        if status == 200 {
            return Ok(answer);
        }
        Err(CommandFailure::Refused(refusal(status, answer)))
    }

    /// Where it listens, and the token.
    pub(super) fn place(&self) -> Result<(AdminAddress, Option<String>), CommandFailure> {
        let address = units::admin_address(&self.admin).map_err(|_| {
            CommandFailure::NotAsked(format!(
                "--admin {}: write \"unix:\" and the absolute path of its socket, or an IP address and a port \
                 such as 127.0.0.1:9901",
                self.admin
            ))
        })?;
        let token = self.token_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| {
                CommandFailure::NotAsked(format!("{}: {error}", path.display()))
            })?;
            Ok(text.lines().next().unwrap_or_default().trim().to_owned())
        });
        let token = token.transpose()?;
        Ok((address, token))
    }
}

pub(super) fn not_asked(address: &AdminAddress, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            ": does it run, and does its configuration have [admin]? --admin says where"
        }
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            return format!(
                "millrace cannot be asked on {address}: it accepts, but gives no answer in time"
            );
        }
        std::io::ErrorKind::PermissionDenied => ": only its user may use the socket",
        _ => "",
    };
    format!("millrace cannot be asked on {address}: {error}{hint}")
}
