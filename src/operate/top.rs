//! `millrace top`: what a running process does, in a terminal, a few times a minute anew.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};
use serde_json::Value;

use super::process::{CommandFailure, ProcessArgs};
use super::text::{lasting, line, list, octets, text};
use crate::base::clock::{Moment, monotonic};
use crate::observe::stats::Histogram;

/// How many seconds of requests are shown.
const SHOWN: usize = 240;

/// How it is watched.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub every: u64,
    #[command(flatten)]
    pub target: ProcessArgs,
}

impl TopArgs {
    /// Draws until the operator ends it.
    pub(super) fn run(&self) -> Result<String, CommandFailure> {
        if !std::io::stdout().is_terminal() {
            let why = "top draws on a terminal; `millrace status` and `millrace stats` print, also as --json";
            return Err(CommandFailure::NotAsked(why.to_owned()));
        }
        let mut view = TopView::default();
        // What cannot be asked is told as a line, and not on a screen that is gone at once.
        view.take(self.look()?);
        let mut terminal = ratatui::init();
        let result = self.watch(&mut terminal, &mut view);
        ratatui::restore();
        result.map(|()| String::new())
    }

    fn watch(
        &self,
        terminal: &mut ratatui::DefaultTerminal,
        view: &mut TopView,
    ) -> Result<(), CommandFailure> {
        let failed =
            |error: std::io::Error| CommandFailure::NotAsked(format!("the terminal: {error}"));
        loop {
            let drawn = terminal.draw(|frame| draw(frame, view));
            drawn.map_err(failed)?;
            // From now: a process that answers late is not asked the more for it.
            let next = monotonic().after(Duration::from_secs(self.every));
            while monotonic() < next {
                if event::poll(next.since(monotonic())).map_err(failed)? {
                    match key(&event::read().map_err(failed)?) {
                        Some(TopKey::End) => return Ok(()),
                        Some(TopKey::Hold) => view.is_held = !view.is_held,
                        None => {}
                    }
                    // The terminal may have another size now.
                    terminal.draw(|frame| draw(frame, view)).map_err(failed)?;
                }
            }
            if view.is_held {
                continue;
            }
            match self.look() {
                Ok(look) => view.take(look),
                Err(CommandFailure::Refused(why) | CommandFailure::NotAsked(why)) => {
                    view.fault = Some(why)
                }
            }
        }
    }

    fn look(&self) -> Result<Look, CommandFailure> {
        let ask = |path: &str| {
            let answer = self.target.ask("GET", path, "")?;
            serde_json::from_str(&answer).map_err(|_| {
                CommandFailure::NotAsked("what answers is no admin listener of millrace".to_owned())
            })
        };
        let (status, stats, failed) =
            (ask("/status")?, ask("/stats")?, ask("/recent?failed=1&limit=20")?);
        Ok(Look { at: monotonic(), status, stats, failed })
    }
}

enum TopKey {
    End,
    Hold,
}

fn key(event: &Event) -> Option<TopKey> {
    let Event::Key(key) = event else { return None };
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(TopKey::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(TopKey::End),
        KeyCode::Char(' ') => Some(TopKey::Hold),
        _ => None,
    }
}

/// What was told at one time.
#[derive(Debug, Default)]
struct Look {
    at: Moment,
    status: Value,
    stats: Value,
    failed: Value,
}

/// What is on the screen.
#[derive(Debug, Default)]
struct TopView {
    before: Look,
    now: Look,
    /// Requests a second, the newest first.
    rates: VecDeque<u64>,
    is_held: bool,
    /// Why it cannot be asked now.
    fault: Option<String>,
}

impl TopView {
    fn take(&mut self, look: Look) {
        let is_first = self.now.status.is_null();
        // A process that has taken the place of another counts from zero.
        let is_new = look.stats["exchanges"].as_u64() < self.now.stats["exchanges"].as_u64();
        self.before = std::mem::replace(&mut self.now, look);
        self.fault = None;
        if is_new {
            self.before = Look::default();
        }
        if !is_first && !is_new {
            self.rates.push_front(rounded(self.rate(|stats| &stats["exchanges"])));
            self.rates.truncate(SHOWN);
        }
    }

    /// How much more of it there was, a second.
    fn rate<'a>(&'a self, of: impl Fn(&'a Value) -> &'a Value) -> f64 {
        let seconds = self.now.at.since(self.before.at).as_secs_f64();
        let (now, before) = (of(&self.now.stats).as_u64(), of(&self.before.stats).as_u64());
        match (now, before) {
            (Some(now), Some(before)) if seconds > 0.0 => {
                now.saturating_sub(before) as f64 / seconds
            }
            _ => 0.0,
        }
    }

    /// The row of the same name in a list.
    fn same<'a>(stats: &'a Value, kind: &str, row: &Value, names: &[&str]) -> &'a Value {
        let is_same = |one: &&Value| names.iter().all(|name| one[*name] == row[*name]);
        list(&stats[kind]).iter().find(is_same).unwrap_or(&Value::Null)
    }

    /// Requests since the last look by how long they took.
    fn histogram(&self) -> Histogram {
        let counts = |stats: &Value| -> Vec<u64> {
            list(&stats["histogram"]["counts"]).iter().filter_map(Value::as_u64).collect()
        };
        let (now, before) = (counts(&self.now.stats), counts(&self.before.stats));
        let mut all = Histogram::default();
        for (at, bucket) in all.buckets.iter_mut().enumerate() {
            let then = before.get(at).copied().unwrap_or_default();
            *bucket = now.get(at).copied().unwrap_or_default().saturating_sub(then);
        }
        all
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is small and not negative"
)]
fn rounded(rate: f64) -> u64 {
    rate.round() as u64
}

fn draw(frame: &mut Frame<'_>, view: &TopView) {
    let routes = list(&view.now.stats["routes"]).len();
    let endpoints: usize =
        list(&view.now.status["clusters"]).iter().map(|one| list(&one["endpoints"]).len()).sum();
    let rows = |count: usize| u16::try_from(count + 2).unwrap_or(u16::MAX);
    let areas = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(6),
        Constraint::Max(rows(routes)),
        Constraint::Max(rows(endpoints)),
        Constraint::Min(3),
    ])
    .split(frame.area());
    frame.render_widget(head(view), areas[0]);
    draw_rates(frame, view, areas[1]);
    frame.render_widget(route_table(view), areas[2]);
    frame.render_widget(endpoint_table(view), areas[3]);
    frame.render_widget(failures(view), areas[4]);
}

const QUIET: Style = Style::new().fg(Color::DarkGray);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

fn head(view: &TopView) -> Paragraph<'_> {
    let (status, stats) = (&view.now.status, &view.now.stats);
    let uptime = status["uptime_seconds"].as_u64().unwrap_or_default();
    let first = format!(
        "{}, millrace {}, up {}, {} workers, {} connections, {} of memory, {} in the cache",
        text(&status["name"]),
        text(&status["version"]),
        lasting(uptime),
        status["workers"],
        stats["connections"],
        octets(&status["memory"]["bytes"]),
        octets(&status["cache"]["bytes"]),
    );
    let second = match &view.fault {
        Some(why) => Line::styled(why.as_str(), BAD),
        None if status["draining"] == true => Line::styled("it drains", BAD),
        None if view.is_held => Line::styled("held: space goes on", QUIET),
        None => Line::styled("q ends, space holds", QUIET),
    };
    Paragraph::new(vec![Line::from(first), second])
}

fn draw_rates(frame: &mut Frame<'_>, view: &TopView, area: Rect) {
    let latency = view.histogram();
    let millis = |share| latency.quantile(share).as_secs_f64() * 1e3;
    let title = format!(
        " {:.0} requests a second, {:.0} failed; 50 % within {:.1} ms, 99 % within {:.1} ms ",
        view.rate(|stats| &stats["exchanges"]),
        view.rate(|stats| &stats["failures"]),
        millis(0.5),
        millis(0.99),
    );
    let block = Block::bordered().title(title);
    let width = usize::from(area.width.saturating_sub(2));
    let newest: Vec<u64> = view.rates.iter().take(width).rev().copied().collect();
    frame.render_widget(Sparkline::default().block(block).data(newest).style(Color::Cyan), area);
}

/// Numbers of a route or endpoint a second: all, 4xx, 5xx.
fn rates(view: &TopView, kind: &str, row: &Value, names: &[&str]) -> [f64; 3] {
    ["all", "4xx", "5xx"]
        .map(|class| view.rate(|stats| &TopView::same(stats, kind, row, names)["requests"][class]))
}

fn number(value: f64) -> Cell<'static> {
    Cell::from(format!("{value:>8.0}"))
}

/// A number that should be none.
fn bad(value: f64) -> Cell<'static> {
    let style = if value > 0.0 { BAD } else { QUIET };
    Cell::from(Span::styled(format!("{value:>8.0}"), style))
}

fn header(names: &[&'static str]) -> Row<'static> {
    Row::new(names.iter().map(|name| Cell::from(*name))).style(QUIET)
}

fn route_table(view: &TopView) -> Table<'_> {
    let rows = list(&view.now.stats["routes"]).iter().map(|one| {
        let [all, client, server] = rates(view, "routes", one, &["route"]);
        let (hits, asked) = (one["cache_hits"].as_f64(), one["cache_asked"].as_f64());
        let hits = hits.zip(asked).filter(|(_, asked)| *asked > 0.0);
        let hits = hits.map_or_else(
            || "–".to_owned(),
            |(hits, asked)| format!("{:.0} %", 100.0 * hits / asked),
        );
        Row::new([
            Cell::from(text(&one["route"])),
            number(all),
            number(client),
            bad(server),
            Cell::from(one["duration_ms"]["p50"].to_string()),
            Cell::from(one["duration_ms"]["p99"].to_string()),
            Cell::from(hits),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
    ]
    .into_iter()
    .chain([Constraint::Length(9); 3]);
    Table::new(rows, widths).header(header(&[
        "route",
        "  a second",
        "     4xx",
        "     5xx",
        "50 % ms",
        "99 % ms",
        "cached",
    ]))
}

fn endpoint_table(view: &TopView) -> Table<'_> {
    let clusters = list(&view.now.status["clusters"]).iter();
    let rows = clusters.flat_map(move |cluster| {
        list(&cluster["endpoints"]).iter().map(move |one| {
            let key = serde_json::json!({ "cluster": cluster["name"], "endpoint": one["address"] });
            let names = ["cluster", "endpoint"];
            let [all, _, server] = rates(view, "endpoints", &key, &names);
            let found = TopView::same(&view.now.stats, "endpoints", &key, &names);
            let style = if one["available"] == true { Style::new().fg(Color::Green) } else { BAD };
            Row::new([
                Cell::from(format!("{} {}", text(&cluster["name"]), text(&one["address"]))),
                number(all),
                bad(server),
                Cell::from(one["in_flight"].to_string()),
                Cell::from(one["weight"].to_string()),
                Cell::from(found["upstream_ms"]["p99"].to_string()),
                Cell::from(Span::styled(text(&one["state"]), style)),
            ])
        })
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Fill(1),
    ];
    Table::new(rows, widths).header(header(&[
        "endpoint",
        "  a second",
        "     5xx",
        "in flight",
        "weight",
        "99 % ms",
        "state",
    ]))
}

fn failures(view: &TopView) -> Paragraph<'_> {
    let lines: Vec<Line<'_>> = list(&view.now.failed)
        .iter()
        .map(|one| Line::from(line(one).trim_end().to_owned()))
        .collect();
    Paragraph::new(lines).block(Block::bordered().title(" last failures "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn look(at: u64, count: u64) -> Look {
        let requests = json!({ "all": count, "4xx": 0, "5xx": count / 10 });
        let took = json!({ "p50": 1.2, "p99": 7.5 });
        let mut counts = [0; 15];
        counts[1] = count;
        Look {
            at: Moment(at),
            status: json!({
                "name": "edge", "version": "1", "uptime_seconds": 61, "workers": 2,
                "memory": { "bytes": 1 << 20 }, "cache": { "bytes": 0 },
                "clusters": [{ "name": "app", "endpoints": [{
                    "address": "10.0.0.5:3000", "state": "down, by order", "available": false,
                    "weight": 1, "in_flight": 3,
                }] }],
            }),
            stats: json!({
                "exchanges": count, "failures": 0, "connections": 5,
                "histogram": { "counts": counts },
                "routes": [{ "route": "shop", "requests": requests, "duration_ms": took, "cache_hits": 1, "cache_asked": 4 }],
                "endpoints": [{ "cluster": "app", "endpoint": "10.0.0.5:3000", "requests": requests, "upstream_ms": took }],
            }),
            failed: json!([{ "time": "t", "status": 502, "method": "GET", "host": "a", "path": "/gone",
                             "duration_ms": 1, "request_id": "i", "reason": "it is gone" }]),
        }
    }

    fn shown(view: &TopView) -> String {
        let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let cells = terminal.backend().buffer().content();
        let lines = cells
            .chunks(120)
            .map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let mut view = TopView::default();
        view.take(look(1000, 100));
        assert!(shown(&view).contains("0 requests a second"), "{}", shown(&view));
        view.take(look(3000, 500));
        let screen = shown(&view);
        for part in [
            "200 requests a second",
            "within 0.8 ms",
            "shop",
            "25 %",
            "down, by order",
            "/gone",
            "up 1 min",
        ] {
            assert!(screen.contains(part), "{part} in\n{screen}");
        }
        let route = screen.lines().find(|line| line.starts_with("shop")).unwrap();
        let numbers: Vec<&str> = route.split_whitespace().collect();
        assert_eq!(numbers[1..4], ["200", "0", "20"], "{route}");
        assert_eq!(view.rates, [200]);
    }

    #[test]
    fn another_process_begins_anew() {
        let mut view = TopView::default();
        view.take(look(1000, 100));
        view.take(look(2000, 200));
        view.take(look(3000, 10));
        assert!(shown(&view).contains(" 0 requests a second"), "{}", shown(&view));
        assert_eq!(view.rates.len(), 1);
        view.fault = Some("it cannot be asked".to_owned());
        assert!(shown(&view).contains("it cannot be asked"));
    }
}
