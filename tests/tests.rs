//! Behaviour over real sockets, on both drivers. A main of our own prints the exam's score.
#![expect(clippy::disallowed_types, reason = "tests may lock")]
#![expect(clippy::disallowed_methods, reason = "tests measure time")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the score")]
#![expect(clippy::cast_possible_truncation, reason = "small numbers")]
#![allow(unreachable_pub, reason = "nobody sees a test crate from outside")]

mod behaviour;
mod config_example;
mod differential;
mod documents;
mod exam;
mod layers;
mod one_head;
mod resilience;
mod support;
mod tcp;

use std::collections::BTreeMap;
use std::sync::Mutex;

use libtest_mimic::{Arguments, Failed, Trial};
use support::Driver;

/// A test and its name; the names of exam rows begin with the row's id.
pub type Row = (&'static str, fn(Driver));

/// Group of an exam row: passed, of how many.
static SCORE: Mutex<BTreeMap<char, (u32, u32)>> = Mutex::new(BTreeMap::new());

fn main() {
    let mut arguments = Arguments::from_args();
    // Most of these wait for sockets and deadlines.
    arguments.test_threads = arguments.test_threads.or(Some(8));
    let whole: [(&str, fn()); _] = [
        ("layers_hold", layers::check),
        ("config_example_is_the_defaults", config_example::check),
        ("one_head_in_both_versions", one_head::check),
        ("documents_show_what_is_accepted", documents::configurations_are_accepted),
        ("documents_name_the_bars", documents::readme_names_the_bars),
        ("documents_have_the_rows_of_the_exam", documents::rows_are_in_the_exam),
        ("documents_are_short", documents::pages_are_short),
        ("differential_against_another_parser", differential::check),
    ];
    let run = |(name, check): (&str, fn())| {
        Trial::test(name, move || {
            check();
            Ok(())
        })
    };
    let mut trials: Vec<Trial> = whole.map(run).into();
    for driver in [Driver::IoUring, Driver::Epoll] {
        let exam = exam::rows().into_iter().map(|row| trial(row, driver, true));
        trials.extend(exam);
        trials.extend(behaviour::rows().into_iter().map(|row| trial(row, driver, false)));
        trials.extend(resilience::rows().into_iter().map(|row| trial(row, driver, false)));
        trials.extend(tcp::rows().into_iter().map(|row| trial(row, driver, false)));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let score = SCORE.lock().unwrap();
    for (group, (passed, all)) in score.iter() {
        println!(
            "exam {} {passed}/{all} (rows on io_uring and on epoll)",
            group.to_ascii_uppercase()
        );
    }
    let again = AGAIN.lock().unwrap();
    if !again.is_empty() {
        println!("tried once more: {} ({})", again.len(), again.join(", "));
    }
    assert!(again.len() <= AGAIN_MAX, "rows that pass at the second try hide a fault");
    conclusion.exit();
}

/// Rows that are written and not yet met; `--include-ignored` runs them.
const WAITING: [&str; 0] = [];

/// Rows that measure time: a pause of seconds, as CI's shared machine makes them, breaks each of them. There, and only
/// there, such a row is tried once more. It is counted and named behind the score, and more than `AGAIN_MAX` fail.
const PACED: [(&str, &str); 6] = [
    ("d", "how long a connection idles in the pool"),
    ("f", "how long a slow client may take"),
    ("g", "when a connect or a first octet is overdue"),
    ("h", "how long a request waits in a queue"),
    ("i", "when checks come, and how long an ejection lasts"),
    ("r35", "two addresses race for 250 ms"),
];

/// Rows that were tried once more.
static AGAIN: Mutex<Vec<String>> = Mutex::new(Vec::new());

const AGAIN_MAX: usize = 3;

fn is_paced(name: &str) -> bool {
    let begins = |(row, _): &(&str, &str)| {
        let rest = name.strip_prefix(row);
        rest.is_some_and(|rest| row.len() > 1 || rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    PACED.iter().any(begins)
}

fn trial((name, run): Row, driver: Driver, is_exam: bool) -> Trial {
    Trial::test(format!("{name}::{driver:?}"), move || {
        let mut result = std::panic::catch_unwind(|| run(driver));
        if result.is_err() && is_paced(name) && std::env::var_os("CI").is_some() {
            AGAIN.lock().unwrap().push(format!("{name}::{driver:?}"));
            result = std::panic::catch_unwind(|| run(driver));
        }
        if is_exam {
            let group = name.chars().next().unwrap_or('?');
            let mut score = SCORE.lock().unwrap();
            let entry = score.entry(group).or_default();
            entry.0 += u32::from(result.is_ok());
            entry.1 += 1;
        }
        result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Failed::from(text.unwrap_or_else(|| "panicked".to_owned()))
        })
    })
    .with_ignored_flag(WAITING.iter().any(|row| name.starts_with(row)))
}
