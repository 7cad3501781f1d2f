//! Alerts: the worst first, the newest of those first, without what somebody has dismissed.

use std::{cmp::Reverse, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::Level;

use crate::{
    Core,
    backend::truenas::{client, model::Alert, place},
    error::{Fault, ToolError},
    reply::{self, Page},
    times,
    tool::{About, Call, Effect, Read, Tool, Toolset},
};

const DOING: &str = "list alerts";

/// TrueNAS's seven, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Severity {
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Severity {
    /// A level that is not known here counts as the worst, so that no filter hides it.
    fn of(level: &str) -> Self {
        match level {
            "INFO" => Self::Info,
            "NOTICE" => Self::Notice,
            "WARNING" => Self::Warning,
            "ERROR" => Self::Error,
            "CRITICAL" => Self::Critical,
            "ALERT" => Self::Alert,
            _ => Self::Emergency,
        }
    }
}

pub(crate) struct Alerts;

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Args {
    /// This and worse.
    level: Option<Severity>,
    include_dismissed: Option<bool>,
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Out {
    alerts: Vec<Row>,
    #[serde(flatten)]
    page: Page,
}

#[derive(Serialize, JsonSchema)]
struct Row {
    level: String,
    message: String,
    /// First seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    datetime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_occurrence: Option<String>,
    /// What kind it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    klass: Option<String>,
    /// Controller or host.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dismissed: bool,
}

fn sorted(mut alerts: Vec<Alert>, args: &Args) -> Vec<Row> {
    alerts.retain(|alert| {
        (!alert.dismissed || args.include_dismissed == Some(true))
            && args.level.is_none_or(|least| Severity::of(&alert.level) >= least)
    });
    alerts.sort_by_key(|alert| (Reverse(Severity::of(&alert.level)), Reverse(alert.last.max(alert.at))));
    alerts
        .into_iter()
        .map(|alert| Row {
            datetime: alert.at.and_then(times::rfc3339),
            last_occurrence: alert.last.and_then(times::rfc3339),
            level: alert.level,
            message: alert.message,
            klass: alert.klass,
            node: alert.node,
            dismissed: alert.dismissed,
        })
        .collect()
}

impl Tool for Alerts {
    const ABOUT: About = About {
        name: "truenas_alerts",
        title: "TrueNAS alerts",
        text: "Alerts of TrueNAS, the worst and newest first. Without dismissed ones unless asked.",
        level: Level::Monitor,
        toolset: Toolset::Truenas,
        worst: Effect::Read,
        idempotent: true,
        open_world: false,
        untrusted: &["alerts[].message"],
    };
    type Args = Args;
    type Out = Out;
}

impl Read for Alerts {
    async fn read(core: Arc<Core>, _call: Call, args: Args) -> Result<Out, ToolError> {
        let failed = |fault: Fault| fault.doing(DOING, place(&core));
        let rows = sorted(client(&core).map_err(failed)?.alerts().await.map_err(failed)?, &args);
        let budget = reply::row_budget(core.config.max_result_chars);
        let (alerts, page) = reply::page(rows, args.limit, args.cursor.as_deref(), budget, "`level`")
            .map_err(|problem| ToolError::invalid(DOING, problem))?;
        Ok(Out { alerts, page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(args: serde_json::Value) -> Vec<(String, String)> {
        let alert = |level: &str, text: &str, at: i64, dismissed: bool| json!({"level": level, "formatted": text, "datetime": {"$date": at}, "last_occurrence": null, "dismissed": dismissed});
        let rows = json!([
            alert("INFO", "a", 9000, false),
            alert("critical", "b", 1000, false),
            alert("CRITICAL", "c", 2000, false),
            alert("EMERGENCY", "gone", 1000, true),
            alert("WARNING", "d", 1000, false),
            alert("DOOM", "e", 1000, false),
        ]);
        let args = serde_json::from_value(args).unwrap();
        sorted(Alert::list(&rows), &args).into_iter().map(|row| (row.level, row.message)).collect()
    }

    #[test]
    fn the_worst_and_newest_come_first_and_dismissed_ones_only_when_asked() {
        let all = told(json!({}));
        let order: String = all.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(order, "ecbda");
        assert_eq!(all[2].0, "CRITICAL");
        assert_eq!(told(json!({"include_dismissed": true})).len(), 6);
        let worse: String = told(json!({"level": "ERROR"})).into_iter().map(|(_, message)| message).collect();
        assert_eq!(worse, "ecb");
    }
}
