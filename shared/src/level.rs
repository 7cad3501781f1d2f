//! The four capability levels: how much a caller may do. What a tool *does* (its effect) is another question,
//! which the core's gate answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How much a caller may do. Each level includes the ones below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Read states, logs and numbers.
    Monitor = 1,
    /// Also start, stop and restart what exists.
    Operate = 2,
    /// Also read configurations.
    Configure = 3,
    /// Also write, execute and delete.
    Manage = 4,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 4] = [Self::Monitor, Self::Operate, Self::Configure, Self::Manage];

    /// 1 to 4, as `CAPABILITY_LEVEL` takes it.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name in lower case, as `CAPABILITY_LEVEL` takes it too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Operate => "operate",
            Self::Configure => "configure",
            Self::Manage => "manage",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number(), self.name())
    }
}

/// The text is none of the four levels. An earlier server took `level2` for "no limit at all"; here it is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a capability level; use 1, 2, 3, 4 or monitor, operate, configure, manage")]
pub struct NotALevel(pub String);

impl FromStr for Level {
    type Err = NotALevel;

    fn from_str(text: &str) -> Result<Self, NotALevel> {
        let wanted = text.trim();
        Self::ALL
            .into_iter()
            .find(|level| wanted.eq_ignore_ascii_case(level.name()) || wanted == level.number().to_string())
            .ok_or_else(|| NotALevel(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_mean_the_same() {
        for level in Level::ALL {
            assert_eq!(level.number().to_string().parse(), Ok(level));
            assert_eq!(level.name().parse(), Ok(level));
            assert_eq!(level.name().to_uppercase().parse(), Ok(level));
        }
    }

    #[test]
    fn what_is_not_exactly_a_level_is_refused() {
        for text in ["", "0", "5", "-1", "1.9", "2abc", "level2", "01", "+1", "monitor,manage", "١"] {
            assert!(text.parse::<Level>().is_err(), "{text:?} was taken for a level");
        }
    }

    #[test]
    fn levels_are_ordered() {
        assert!(
            Level::Monitor < Level::Operate && Level::Operate < Level::Configure && Level::Configure < Level::Manage
        );
    }
}
