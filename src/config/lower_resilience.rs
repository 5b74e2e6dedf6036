//! `[cluster.passive]`, `[cluster.retry]`, `[cluster.queue]`, `[cluster.slow_start]` and
//! `[cluster.sticky]` to plan.

use std::time::Duration;

use super::lower_common::{duration, statuses};
use super::raw::ConfigTable;
use super::resilience::{Adaptive, Passive, Queue, Resilience, Retry, RetryOn, Statuses, Sticky};
use super::units;
use crate::base::limits::{ATTEMPTS_MAX, QUEUE_MAX};
use crate::message::fields::is_token_byte;

/// The set that the word stands for, with what the tables change. Also whether it is `"auto"`.
pub(super) fn read(table: &mut ConfigTable<'_>) -> (Resilience, bool) {
    let is_auto = table.word("resilience", &[("auto", true), ("off", false)]).unwrap_or(true);
    let base = if is_auto { Resilience::AUTO } else { Resilience::OFF };
    let resilience = Resilience {
        passive: read_passive(table.table("passive"), base.passive),
        retry: read_retry(table.table("retry"), base.retry),
        queue: read_queue(table.table("queue"), base.queue),
        slow_start: read_slow_start(table.table("slow_start"), base.slow_start),
        adaptive: read_adaptive(table.table("adaptive")),
        hedge: read_hedge(table.table("hedge")),
    };
    (resilience, is_auto)
}

fn count(
    table: &mut ConfigTable<'_>,
    key: &'static str,
    range: std::ops::Range<u64>,
) -> Option<u32> {
    table.number(key, range).and_then(|number| u32::try_from(number).ok())
}

fn read_passive(mut table: ConfigTable<'_>, base: Passive) -> Passive {
    let passive = Passive {
        failures: count(&mut table, "failures", 0..1001).unwrap_or(base.failures),
        failure_rate: count(&mut table, "failure_rate", 0..101).unwrap_or(base.failure_rate),
        ejection: duration(&mut table, "ejection", false).unwrap_or(base.ejection),
        ejection_max: duration(&mut table, "ejection_max", false).unwrap_or(base.ejection_max),
        share: count(&mut table, "share", 0..101).unwrap_or(base.share),
    };
    if passive.ejection_max < passive.ejection {
        let (most, first) = (table.key("ejection_max"), table.key("ejection"));
        table.error(table.span.clone(), format!("\"{most}\" is shorter than \"{first}\""));
    }
    table.finish();
    passive
}

fn read_retry(mut table: ConfigTable<'_>, base: Retry) -> Retry {
    let most = ATTEMPTS_MAX as u64 + 1;
    let on = if table.has("on") { read_on(&mut table) } else { base.on };
    let try_timeout = table.parsed("try_timeout", |text| match text {
        "none" => Ok(Duration::MAX),
        _ => units::duration(text).and_then(|one| match one {
            Duration::ZERO => Err("zero would end every try; write \"none\" for no limit".into()),
            one => Ok(one),
        }),
    });
    let retry = Retry {
        attempts: count(&mut table, "attempts", 1..most).unwrap_or(base.attempts),
        budget: count(&mut table, "budget", 0..101).unwrap_or(base.budget),
        on,
        try_timeout: try_timeout.unwrap_or(base.try_timeout),
    };
    table.finish();
    retry
}

/// `on = ["connect", "lost", "timeout", "503", "5xx"]`
fn read_on(table: &mut ConfigTable<'_>) -> RetryOn {
    let mut on = RetryOn::default();
    for word in table.strings("on") {
        match word.value.as_str() {
            "connect" => on.connect = true,
            "lost" => on.lost = true,
            "timeout" => on.timeout = true,
            text => match statuses(text) {
                Ok(range) if *range.start() >= 400 => {
                    on.statuses = range.fold(on.statuses, Statuses::with);
                }
                _ => {
                    let message = format!(
                        "\"{text}\" is no reason to try again: write \"connect\", \"lost\", \
                         \"timeout\", or statuses from 400 as \"503\" or \"5xx\""
                    );
                    table.error(word.span, message);
                }
            },
        }
    }
    on
}

fn read_queue(mut table: ConfigTable<'_>, base: Queue) -> Queue {
    let max = table.number("max", 0..QUEUE_MAX + 1).and_then(|max| usize::try_from(max).ok());
    let queue = Queue {
        max: max.unwrap_or(base.max),
        timeout: duration(&mut table, "timeout", false).unwrap_or(base.timeout),
    };
    table.finish();
    queue
}

fn read_slow_start(mut table: ConfigTable<'_>, base: Duration) -> Duration {
    let found = duration(&mut table, "duration", true).unwrap_or(base);
    table.finish();
    found
}

/// `[cluster.adaptive]`; without the table there is no such limit.
fn read_adaptive(mut table: ConfigTable<'_>) -> Option<Adaptive> {
    let (is_there, defaults) = (table.is_there(), Adaptive::default());
    let adaptive = Adaptive {
        min: count(&mut table, "min", 1..1_000_001).unwrap_or(defaults.min),
        max: count(&mut table, "max", 1..1_000_001).unwrap_or(defaults.max),
    };
    if adaptive.max < adaptive.min {
        let (max, min) = (table.key("max"), table.key("min"));
        table.error(table.span.clone(), format!("\"{max}\" is less than \"{min}\""));
    }
    table.finish();
    is_there.then_some(adaptive)
}

/// `[cluster.hedge]`; without the table nothing is asked twice.
fn read_hedge(mut table: ConfigTable<'_>) -> Option<u32> {
    let is_there = table.is_there();
    let percentile = count(&mut table, "percentile", 50..100).unwrap_or(95);
    table.finish();
    is_there.then_some(percentile)
}

/// `[cluster.sticky]`; without the table no client is remembered.
pub(super) fn read_sticky(table: &mut ConfigTable<'_>) -> Option<Sticky> {
    let is_there = table.has("sticky");
    let mut table = table.table("sticky");
    let cookie = table.parsed("cookie", |text| {
        let is_name = !text.is_empty() && text.bytes().all(is_token_byte);
        if is_name { Ok(text.to_owned()) } else { Err(format!("\"{text}\" is no cookie's name")) }
    });
    let key = table.parsed("key", |text| {
        if text.len() < 16 {
            Err("a key of less than 16 characters can be guessed".to_owned())
        } else {
            Ok(text.to_owned())
        }
    });
    let sticky = Sticky {
        cookie: cookie.unwrap_or_else(|| "millrace".to_owned()),
        ttl: duration(&mut table, "ttl", true).unwrap_or(Duration::ZERO),
        key,
    };
    table.finish();
    is_there.then_some(sticky)
}
