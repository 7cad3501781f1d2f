//! Samples, what is made of them, and how it is shown.

use crate::Fallible;
use bench::samples::median;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// What a number means.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Milliseconds; less is better.
    Millis,
    /// Microseconds; less is better.
    Micros,
    /// MiB; less is better.
    MiB,
    /// How many a second; more is better.
    PerSecond,
}

impl Unit {
    /// Its name in the table and in the JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Millis => "ms",
            Self::Micros => "us",
            Self::MiB => "MiB",
            Self::PerSecond => "/s",
        }
    }

    /// A number with as many places as are worth reading.
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.0}/s"),
            _ => format!("{value:.2} {}", self.name()),
        }
    }

    /// The best of the samples.
    fn best(self, samples: &[f64]) -> Option<f64> {
        let all = samples.iter().copied();
        match self {
            Self::PerSecond => all.reduce(f64::max),
            _ => all.reduce(f64::min),
        }
    }
}

/// Which sample stands for all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The middle one.
    Median,
    /// The greatest: a peak is a peak.
    Max,
}

/// What was aimed at. The project's own numbers; nothing fails when one is missed.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// Core divided by floor.
    RatioAtMost(f64),
    /// Core divided by floor.
    RatioAtLeast(f64),
    /// The core's own number, in the unit of the measure.
    AtMost(f64),
    /// Only looked at.
    None,
}

/// One line of the table.
pub(crate) struct Measure {
    /// For people.
    pub(crate) title: String,
    /// For programs.
    pub(crate) key: &'static str,
    /// Of all its numbers.
    pub(crate) unit: Unit,
    /// Of its samples.
    pub(crate) pick: Pick,
    /// Of the project.
    pub(crate) aim: Aim,
    /// Samples of the core and of the floor, in the order taken.
    pub(crate) samples: [Vec<f64>; 2],
}

/// The numbers of one line, worked out.
struct Figures {
    core: f64,
    floor: f64,
    best: [f64; 2],
    ratio: Option<f64>,
    best_ratio: Option<f64>,
    met: Option<bool>,
}

impl Measure {
    /// Nothing when a side has no samples.
    fn figures(&self) -> Option<Figures> {
        let [core, floor] = &self.samples;
        let pick = |samples: &[f64]| match self.pick {
            Pick::Median => median(samples),
            Pick::Max => samples.iter().copied().reduce(f64::max),
        };
        let divide = |a: f64, b: f64| (b > 0.0).then(|| a / b);
        let (core_best, floor_best) = (self.unit.best(core)?, self.unit.best(floor)?);
        let (core, floor) = (pick(core)?, pick(floor)?);
        let ratio = divide(core, floor);
        let met = match self.aim {
            Aim::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Aim::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Aim::AtMost(most) => Some(core <= most),
            Aim::None => None,
        };
        let best = [core_best, floor_best];
        Some(Figures { core, floor, best, ratio, best_ratio: divide(core_best, floor_best), met })
    }

    /// The aim in words.
    fn aim(&self) -> String {
        match self.aim {
            Aim::RatioAtMost(most) => format!("<= {most}x"),
            Aim::RatioAtLeast(least) => format!(">= {least}x"),
            Aim::AtMost(most) => format!("<= {most} {}", self.unit.name()),
            Aim::None => "-".into(),
        }
    }

    /// The cells of its line.
    fn row(&self) -> [String; 6] {
        let Some(figures) = self.figures() else {
            let none = || "not measured".to_owned();
            return [self.title.clone(), none(), none(), "-".into(), self.aim(), "-".into()];
        };
        let alone = self.samples.iter().all(|samples| samples.len() == 1);
        let beside = |of: f64, best: f64| {
            let of = self.unit.show(of);
            if alone { of } else { format!("{of} ({})", self.unit.show(best)) }
        };
        let times = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.2}x"));
        let [core_best, floor_best] = figures.best;
        let ratio = times(figures.ratio);
        [
            self.title.clone(),
            beside(figures.core, core_best),
            beside(figures.floor, floor_best),
            if alone { ratio } else { format!("{ratio} ({})", times(figures.best_ratio)) },
            self.aim(),
            figures.met.map_or("-", |met| if met { "yes" } else { "no" }).into(),
        ]
    }

    /// Its object in the JSON.
    fn json(&self) -> Value {
        let [core, floor] = &self.samples;
        let figures = self.figures();
        let of = |get: fn(&Figures) -> Option<f64>| figures.as_ref().and_then(get).map(round);
        json!({
            "key": self.key,
            "title": self.title,
            "unit": self.unit.name(),
            "of": if self.pick == Pick::Max { "max" } else { "median" },
            "core": of(|f| Some(f.core)),
            "floor": of(|f| Some(f.floor)),
            "ratio": of(|f| f.ratio),
            "core_best": of(|f| f.best.first().copied()),
            "floor_best": of(|f| f.best.last().copied()),
            "ratio_of_best": of(|f| f.best_ratio),
            "samples": { "core": core.len(), "floor": floor.len() },
            "aim": if matches!(self.aim, Aim::None) { Value::Null } else { self.aim().into() },
            "met": figures.and_then(|figures| figures.met),
        })
    }
}

/// Four places are more than any of this is worth.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Everything found in one run.
pub(crate) struct Report {
    /// What was measured, and on what: names and values.
    pub(crate) subject: Vec<(&'static str, Value)>,
    /// The lines.
    pub(crate) measures: Vec<Measure>,
    /// What a reader should know; each said once.
    pub(crate) notes: Vec<String>,
    /// What could not be measured, and why.
    pub(crate) failures: Vec<String>,
}

impl Report {
    /// Adds a note unless it was made before.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> Fallible<()> {
        let head = ["measure", "core", "floor", "ratio", "aim", "met"].map(String::from);
        let rows: Vec<[String; 6]> = std::iter::once(head).chain(self.measures.iter().map(Measure::row)).collect();
        let mut text = String::new();
        for (name, value) in &self.subject {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            writeln!(text, "{name}: {value}")?;
        }
        writeln!(text)?;
        let width =
            |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        for (number, row) in rows.iter().enumerate() {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Numbers to the right, words to the left.
                if (1..=3).contains(&at) {
                    write!(line, "{cell:>width$}   ")?;
                } else {
                    write!(line, "{cell:<width$}   ")?;
                }
            }
            writeln!(text, "{}", line.trim_end())?;
            if number == 0 {
                writeln!(text, "{}", "-".repeat(widths.iter().sum::<usize>() + 15))?;
            }
        }
        writeln!(
            text,
            "\nMedian (best) of samples taken in turn; peaks are the greatest (least). Ratio: core / floor."
        )?;
        for note in &self.notes {
            writeln!(text, "Note: {note}")?;
        }
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    /// For programs.
    pub(crate) fn json(&self) -> Fallible<()> {
        let subject: serde_json::Map<String, Value> =
            self.subject.iter().map(|(name, value)| ((*name).replace(' ', "_"), value.clone())).collect();
        let measures: Vec<Value> = self.measures.iter().map(Measure::json).collect();
        let all = json!({
            "subject": subject,
            "measures": measures,
            "notes": self.notes,
            "not_measured": self.failures,
        });
        writeln!(io::stdout().lock(), "{all:#}")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! The arithmetic behind a yes or no.

    use super::*;

    fn measure(unit: Unit, pick: Pick, aim: Aim, core: &[f64], floor: &[f64]) -> Measure {
        Measure { title: "t".into(), key: "k", unit, pick, aim, samples: [core.to_vec(), floor.to_vec()] }
    }

    #[test]
    fn aims_are_judged_by_the_ratio_or_by_the_core() {
        let met = |measure: &Measure| measure.figures().and_then(|figures| figures.met);
        let median = Pick::Median;
        assert_eq!(met(&measure(Unit::Millis, median, Aim::RatioAtMost(2.5), &[5.0], &[2.0])), Some(true));
        assert_eq!(met(&measure(Unit::Millis, median, Aim::RatioAtMost(2.5), &[5.1], &[2.0])), Some(false));
        assert_eq!(met(&measure(Unit::PerSecond, median, Aim::RatioAtLeast(0.4), &[4.0], &[10.0])), Some(true));
        assert_eq!(met(&measure(Unit::PerSecond, median, Aim::RatioAtLeast(0.4), &[3.9], &[10.0])), Some(false));
        assert_eq!(met(&measure(Unit::MiB, Pick::Max, Aim::AtMost(8.0), &[7.0, 9.0], &[1.0])), Some(false));
        assert_eq!(met(&measure(Unit::MiB, median, Aim::AtMost(8.0), &[7.0, 9.0], &[1.0])), Some(true));
        assert_eq!(met(&measure(Unit::MiB, median, Aim::None, &[7.0], &[1.0])), None);
        assert_eq!(met(&measure(Unit::Millis, median, Aim::RatioAtMost(1.0), &[7.0], &[0.0])), None);
        assert!(measure(Unit::MiB, median, Aim::AtMost(8.0), &[], &[1.0]).figures().is_none());
    }

    #[test]
    fn the_best_rate_is_the_highest() {
        assert_eq!(Unit::PerSecond.best(&[1.0, 3.0, 2.0]), Some(3.0));
        assert_eq!(Unit::Millis.best(&[2.0, 1.0, 3.0]), Some(1.0));
    }
}
