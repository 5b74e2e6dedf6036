//! `[trace]` to plan.

use super::lower_common::read_fields;
use super::lower_log::of_all;
use super::raw::ConfigTable;
use super::trace::{Collector, Trace};

/// Where nothing is said: one request of a hundred.
const SAMPLE: f64 = 0.01;

pub(super) fn read(mut table: ConfigTable<'_>) -> Option<Trace> {
    let is_there = ["otlp", "sample", "service", "headers"].iter().any(|key| table.has(key));
    let collector = table.parsed("otlp", Collector::of);
    let sample = table.share("sample").unwrap_or(SAMPLE);
    let service = table.string("service").map_or_else(|| "millrace".to_owned(), |name| name.value);
    let headers = read_fields(&mut table, "headers");
    if is_there && !table.has("otlp") {
        table.error(table.span.clone(), "[trace] needs \"otlp\", the URL of a collector");
    }
    table.finish();
    collector.map(|collector| Trace { collector, sample: of_all(sample), service, headers })
}
