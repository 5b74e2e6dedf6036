//! `[access_log]` to plan.

use super::access_log::{ALL, AccessLog, LogFormat, LogTarget, template};
use super::raw::ConfigTable;
use super::units;

pub(super) fn read(mut table: ConfigTable<'_>) -> Option<AccessLog> {
    let path = table.string("path").filter(|path| path.value != "off");
    let to = path.and_then(|path| {
        let to = match path.value.as_str() {
            "-" => LogTarget::Standard,
            "syslog" => LogTarget::Syslog,
            "journald" => LogTarget::Journal,
            text => match text.strip_prefix("syslog:").map(units::listen) {
                None => LogTarget::File(table.path_at(&path.span, text)),
                Some(Ok(address)) => LogTarget::SyslogAt(address),
                Some(Err(why)) => {
                    table.error(path.span, format!("\"access_log.path\": {why}"));
                    return None;
                }
            },
        };
        Some(to)
    });
    let format = table.parsed("format", |text| match text {
        "json" => Ok(LogFormat::Json),
        "combined" => Ok(LogFormat::Combined),
        own => template(own),
    });
    let sample = table.share("sample");
    table.finish();
    to.map(|to| AccessLog {
        to,
        format: format.unwrap_or(LogFormat::Json),
        sample: sample.map_or(ALL, of_all),
    })
}

/// So many of `ALL`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is from 0 to 1"
)]
pub(super) fn of_all(share: f64) -> u32 {
    (share * f64::from(ALL)).round() as u32
}
