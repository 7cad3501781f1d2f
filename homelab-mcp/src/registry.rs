//! All tools of all backends: which are listed, which may be called, and why not. The listing and the check at call
//! time use the same function.

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use shared::Level;

use crate::{
    Core, backend,
    config::Config,
    reply::Answer,
    schema,
    tool::{Call, Entry, Flow},
};

/// One tool, with its schemas made when they are first asked for: a level 1 server never needs most of them.
pub(crate) struct Item {
    pub(crate) entry: &'static Entry,
    arguments: OnceLock<Arc<Map<String, Value>>>,
    result: OnceLock<Arc<Map<String, Value>>>,
}

impl Item {
    /// The input schema.
    pub(crate) fn arguments(&self) -> &Arc<Map<String, Value>> {
        self.arguments.get_or_init(|| Arc::new((self.entry.arguments)()))
    }

    /// The output schema.
    pub(crate) fn result(&self) -> &Arc<Map<String, Value>> {
        self.result.get_or_init(|| Arc::new((self.entry.result)()))
    }
}

/// The tools, by name.
pub(crate) struct Registry(Vec<Item>);

/// There is no such tool, at any level.
#[derive(Debug)]
pub(crate) struct UnknownTool;

impl Registry {
    /// All of them.
    pub(crate) fn new() -> Self {
        Self::of(backend::TOOLSETS)
    }

    /// Those of these toolsets.
    pub(crate) fn of(toolsets: &[&'static [Entry]]) -> Self {
        let mut items: Vec<_> = toolsets
            .iter()
            .flat_map(|tools| tools.iter())
            .map(|entry| Item { entry, arguments: OnceLock::new(), result: OnceLock::new() })
            .collect();
        items.sort_by_key(|item| item.entry.about.name);
        Self(items)
    }

    /// Every tool there is.
    pub(crate) fn all(&self) -> &[Item] {
        &self.0
    }

    /// What a client of this configuration sees, by name.
    pub(crate) fn listed<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a Item> {
        self.0.iter().filter(|item| refusal(config, item.entry).is_none())
    }

    /// Calls a tool.
    pub(crate) async fn call(
        &self,
        core: &Arc<Core>,
        name: &str,
        mut args: Map<String, Value>,
        call: Call,
    ) -> Result<Flow, UnknownTool> {
        let at = self.0.binary_search_by_key(&name, |item| item.entry.about.name).map_err(|_| UnknownTool)?;
        let item = &self.0[at];
        if let Some(refusal) = refusal(&core.config, item.entry) {
            return Ok(Flow::Done(Answer::error("refused", refusal)));
        }
        let problems = schema::problems(item.arguments(), &mut args);
        if !problems.is_empty() {
            let text =
                format!("{name}: {}. Nothing was done; correct the arguments and call again.", problems.join("; "));
            return Ok(Flow::Done(Answer::error("invalid", text)));
        }
        Ok((item.entry.run)(core.clone(), call, args).await)
    }
}

/// Why a tool is not to be had here, in a sentence; `None` when it is.
fn refusal(config: &Config, entry: &Entry) -> Option<String> {
    let about = &entry.about;
    if let Some(variable) = config.selection.switched_off(about.name, about.toolset) {
        return Some(format!(
            "{} is switched off on this server by {variable}. Its operator can change that variable and restart the server.",
            about.name
        ));
    }
    let have: Level = config.level;
    (about.level > have).then(|| {
        format!(
            "{} needs capability level {}, and this server runs at level {have}. Its operator can raise CAPABILITY_LEVEL and \
             restart the server; there is no other way.",
            about.name, about.level
        )
    })
}
