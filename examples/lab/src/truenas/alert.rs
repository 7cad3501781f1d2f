//! Alerts.

use serde_json::{Value, json};

/// An alert.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Identifies it; also `id`.
    pub uuid: String,
    /// `klass`, also `source`.
    pub klass: String,
    /// INFO, NOTICE, WARNING, ERROR, CRITICAL, ALERT, EMERGENCY.
    pub level: &'static str,
    /// HTML as the UI shows it; `None` where the text cannot be made.
    pub formatted: Option<String>,
    /// The template.
    pub text: String,
    /// Milliseconds since 1970.
    pub datetime: i64,
    /// Milliseconds since 1970.
    pub last_occurrence: i64,
    /// Put aside by the user; stays in the list.
    pub dismissed: bool,
    /// Does not go away by itself.
    pub one_shot: bool,
}

impl Alert {
    /// A fresh alert.
    #[must_use]
    pub fn new(number: u32, klass: &str, level: &'static str, formatted: &str, datetime: i64) -> Self {
        Self {
            uuid: format!("{number:08x}-5d1c-4b7e-9a20-0c3f6e1b2d47"),
            klass: klass.to_owned(),
            level,
            formatted: Some(formatted.to_owned()),
            text: "%(text)s".to_owned(),
            datetime,
            last_occurrence: datetime,
            dismissed: false,
            one_shot: false,
        }
    }

    pub(crate) fn row(&self) -> Value {
        json!({
            "uuid": self.uuid,
            "source": self.klass,
            "klass": self.klass,
            "args": {},
            "node": "Controller A",
            "key": "{}",
            "datetime": {"$date": self.datetime},
            "last_occurrence": {"$date": self.last_occurrence},
            "dismissed": self.dismissed,
            "mail": null,
            "text": self.text,
            "id": self.uuid,
            "level": self.level,
            "formatted": self.formatted,
            "one_shot": self.one_shot,
        })
    }
}
