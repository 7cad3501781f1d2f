//! The samples as tables, with the aims beside them.

use crate::http::Era;
use crate::load::Sample;
use crate::memory::{ABANDONED, Growth, IDLE};
use bench::samples::{median, quantile};
use bench::table::table;

/// Of (b), at least.
const RATE: f64 = 0.7;
/// p99 by p50 at most.
const TAIL: f64 = 3.0;
/// Milliseconds of a new session at most.
const SESSION: f64 = 2.0;
/// MiB of all abandoned sessions, less than this.
const PAPER: f64 = 20.0;

/// Samples of one era and number of connections.
pub(crate) struct Row {
    pub(crate) era: Era,
    pub(crate) connections: usize,
    /// Of every server in each.
    pub(crate) rounds: Vec<Vec<Sample>>,
}

impl Row {
    pub(crate) fn title(&self) -> String {
        format!("{}, {}", self.era.name(), self.connections)
    }

    /// Median over the rounds.
    fn of(&self, server: usize, get: impl Fn(&Sample) -> f64) -> Option<f64> {
        self.median(|round| Some(get(round.get(server)?)))
    }

    /// Median of the ratios of samples of the same round.
    fn ratio(&self, server: usize, by: usize, get: impl Fn(&Sample) -> f64) -> Option<f64> {
        self.median(|round| Some(get(round.get(server)?) / get(round.get(by)?)))
    }

    fn median(&self, get: impl Fn(&[Sample]) -> Option<f64>) -> Option<f64> {
        median(&self.rounds.iter().filter_map(|round| get(round)).collect::<Vec<_>>())
    }
}

/// Everything found in one run.
#[derive(Default)]
pub(crate) struct Report {
    /// Of the servers under load: both floors, then the gateway, then the gateway in front of the core.
    pub(crate) names: [&'static str; 4],
    pub(crate) rows: Vec<Row>,
    /// Milliseconds, by server.
    pub(crate) new_session: [Vec<f64>; 4],
    /// The same of clients that can be asked questions; nothing of the floors.
    pub(crate) new_own_session: [Vec<f64>; 4],
    pub(crate) idle: Vec<(&'static str, Growth)>,
    pub(crate) abandoned: Option<Growth>,
    pub(crate) notes: Vec<String>,
    /// What could not be measured, and why.
    pub(crate) failures: Vec<String>,
}

/// Where the servers stand in the report.
const A: usize = 0;
const B: usize = 1;
const GATEWAY: usize = 2;
const PRODUCT: usize = 3;

impl Report {
    /// For people.
    pub(crate) fn text(&self, subject: &str) -> String {
        let mut text = subject.to_owned();
        if cfg!(debug_assertions) {
            text += "Note: the load and the floors are built without optimisation: use --release\n";
        }
        for (title, rows) in [
            ("tools/list per second", self.rates()),
            ("processor milliseconds per request: the server itself, and behind the plus its child", self.cpu()),
            ("milliseconds at 64 connections: p50 / p99", self.tails()),
            ("new session: milliseconds from connecting to its first answer, median / p99", self.sessions()),
            ("memory", self.memory()),
        ] {
            text += &format!("\n{title}\n\n{}", table(&rows));
        }
        text += "\nMedians over the rounds; ratios are those of samples of one round. The gateway is measured in front of the\n\
                 child that (b) has too; its log is on.\n";
        for note in &self.notes {
            text += &format!("Note: {note}\n");
        }
        text
    }

    fn head(&self, first: &str, more: &[&str]) -> Vec<String> {
        [first].iter().chain(&self.names).chain(more).map(|name| (*name).to_owned()).collect()
    }

    fn rates(&self) -> Vec<Vec<String>> {
        let mut rows = vec![self.head("connections", &["gateway / a", "gateway / b", "aim", "met"])];
        for row in &self.rows {
            let mut cells = vec![row.title()];
            cells.extend((A..=PRODUCT).map(|server| show(row.of(server, |sample| sample.rate), 0)));
            let by_b = row.ratio(GATEWAY, B, |sample| sample.rate);
            cells.push(show(row.ratio(GATEWAY, A, |sample| sample.rate), 2));
            cells.push(show(by_b, 2));
            cells.extend([format!(">= {RATE}"), met(by_b.map(|ratio| ratio >= RATE))]);
            rows.push(cells);
        }
        rows
    }

    fn cpu(&self) -> Vec<Vec<String>> {
        let mut rows = vec![self.head("connections", &["gateway / a", "gateway / b"])];
        for row in &self.rows {
            let mut cells = vec![row.title()];
            cells.extend((A..=PRODUCT).map(|server| {
                let own = show(row.of(server, |sample| sample.cpu), 4);
                let children = row.of(server, |sample| sample.children);
                if server == A { own } else { format!("{own} + {}", show(children, 4)) }
            }));
            cells.extend([A, B].map(|by| show(row.ratio(GATEWAY, by, |sample| sample.cpu), 2)));
            rows.push(cells);
        }
        rows
    }

    fn tails(&self) -> Vec<Vec<String>> {
        let mut rows = vec![self.head("", &["gateway p99 / p50", "the same of b", "aim", "met"])];
        for row in self.rows.iter().filter(|row| row.connections == 64) {
            let mut cells = vec![row.era.name().to_owned()];
            cells.extend((A..=PRODUCT).map(|server| {
                let (p50, p99) = (row.of(server, |sample| sample.p50), row.of(server, |sample| sample.p99));
                format!("{} / {}", show(p50, 2), show(p99, 2))
            }));
            let tail = |server| row.of(server, |sample| sample.p99 / sample.p50);
            cells.extend([GATEWAY, B].map(|server| show(tail(server), 2)));
            cells.extend([format!("<= {TAIL}"), met(tail(GATEWAY).map(|tail| tail <= TAIL))]);
            rows.push(cells);
        }
        rows
    }

    fn sessions(&self) -> Vec<Vec<String>> {
        let mut rows = vec![self.head("", &["aim", "met"])];
        for (title, samples) in
            [("sharing a process", &self.new_session), ("with a process of its own", &self.new_own_session)]
        {
            let mut cells = vec![title.to_owned()];
            cells.extend(samples.each_ref().map(|millis| match millis.as_slice() {
                [] => "-".to_owned(),
                millis => format!("{} / {}", show(median(millis), 2), show(quantile(millis, 0.99), 2)),
            }));
            let gateways = samples.iter().skip(GATEWAY).filter_map(|millis| median(millis));
            let worst = gateways.reduce(f64::max);
            cells.extend([format!("<= {SESSION}"), met(worst.map(|worst| worst <= SESSION))]);
            rows.push(cells);
        }
        rows
    }

    fn memory(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["", "MiB", "KiB each", "processes", "aim", "met"].map(String::from).to_vec()];
        let cells = |title: String, growth: &Growth, count: usize| {
            let (mib, each) = (growth.kib as f64 / 1024.0, growth.kib as f64 / count as f64);
            vec![title, format!("{mib:.1}"), format!("{each:.1}"), growth.children.to_string()]
        };
        for (title, growth) in &self.idle {
            let mut row = cells(format!("{title}, {IDLE} idle"), growth, IDLE);
            row.extend(["-", "-"].map(String::from));
            rows.push(row);
        }
        if let Some(growth) = &self.abandoned {
            let mut row = cells(format!("gateway: sessions, {ABANDONED} abandoned"), growth, ABANDONED);
            row.extend([format!("< {PAPER} MiB"), met(Some((growth.kib as f64) < PAPER * 1024.0))]);
            rows.push(row);
        }
        rows
    }
}

fn show(value: Option<f64>, places: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.places$}"))
}

fn met(met: Option<bool>) -> String {
    met.map_or("-", |met| if met { "yes" } else { "no" }).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: f64) -> Sample {
        Sample { rate, cpu: 0.1, children: 0.1, p50: 1.0, p99: 2.0 }
    }

    #[test]
    fn ratios_are_those_of_one_round() {
        // A machine that is twice as fast in the second round, and ten times in the third.
        let rounds = [1.0, 2.0, 10.0].map(|fast| [1.0, 4.0, 2.0, 1.0].map(|rate| sample(rate * fast)).into());
        let row = Row { era: Era::Modern, connections: 16, rounds: rounds.into() };
        assert_eq!(row.ratio(GATEWAY, B, |sample| sample.rate), Some(0.5));
        assert_eq!(row.of(GATEWAY, |sample| sample.rate), Some(4.0));
        let report = Report { names: ["a", "b", "c", "d"], rows: vec![row], ..Report::default() };
        let rates = report.rates();
        assert_eq!(rates.last().and_then(|row| row.last()).map(String::as_str), Some("no"));
    }
}
