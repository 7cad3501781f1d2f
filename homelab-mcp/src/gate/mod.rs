//! The gate: one place that every change passes, judged on the objects that were found, never on the caller's words.
//! [`Gate::judge`] decides whether the call may go on, must ask first, or is refused; [`Gate::admit`] is called at the
//! moment of acting: it brakes, consumes the confirmation, writes the audit line and only then makes the proof.

pub(crate) mod brakes;
pub(crate) mod confirm;
pub(crate) mod protected;

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use crate::{
    audit::Audit,
    config::{Config, Confirm, WithoutDialog},
    dialog::{Dialog, Said},
    proof::Proof,
    redact,
    state::{self, State},
    target::Target,
    tool::{About, Call, Effect, Outcome},
};

use self::{brakes::Brakes, confirm::Codes, protected::Protected};

/// Only this module can make one, and `Proof` asks for one.
pub(crate) struct Mint(());

/// The gate with what it judges by.
pub(crate) struct Gate {
    protected: Arc<Protected>,
    /// Where the names of protected stacks may be links.
    stacks: PathBuf,
    confirm: Confirm,
    without_dialog: WithoutDialog,
    codes: Codes,
    brakes: Brakes,
    audit: Audit,
    /// Why nothing may be destroyed, if so.
    no_destroy: Option<String>,
}

/// What is judged.
pub(crate) struct Case<'a> {
    pub(crate) about: &'a About,
    pub(crate) call: &'a Call,
    pub(crate) targets: &'a [Target],
    pub(crate) effect: Effect,
    pub(crate) summary: &'a str,
    pub(crate) detail: Option<&'a str>,
    /// The tool's own arguments, without the common ones.
    pub(crate) arguments: &'a Map<String, Value>,
    /// The code that the caller brought.
    pub(crate) code: Option<String>,
}

/// The judgement.
pub(crate) enum Verdict {
    /// Go on, with this.
    Go(Ticket),
    /// Answer this and do nothing.
    Answer { outcome: Outcome, message: String, code: Option<String> },
    /// Have the client ask its user and call again.
    Ask { message: String, state: String },
}

/// What is left to do at the moment of acting.
pub(crate) struct Ticket {
    effect: Effect,
    keys: Vec<String>,
    redeem: Option<(String, String)>,
    entry: Map<String, Value>,
}

impl Gate {
    pub(crate) fn new(config: &Config, state: &State, key: [u8; 32]) -> Self {
        let audit = Audit::new(config.audit_log.as_deref(), state);
        let no_destroy = state
            .dir()
            .is_none()
            .then(|| format!("there is no writable STATE_DIR to record it in ({})", state.why_not()));
        Self {
            protected: Arc::new(config.protected.clone()),
            stacks: config.stacks_path.clone(),
            confirm: config.confirm,
            without_dialog: config.without_dialog,
            codes: Codes::new(key, state.clone()),
            brakes: Brakes::new(config.changes_per_minute, config.changes_per_object, state.clone()),
            audit,
            no_destroy,
        }
    }

    /// The audit log, for the start and for what comes after a change.
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Why nothing may be destroyed here, if so.
    pub(crate) fn no_destroy(&self) -> Option<&str> {
        self.no_destroy.as_deref()
    }

    /// The sentence that refuses a protected object, if one is among the targets.
    pub(crate) async fn protects(&self, targets: &[Target]) -> Option<String> {
        /// For the stacks folder, which may be on a share that hangs.
        const LIMIT: Duration = Duration::from_secs(5);
        let (protected, stacks, judged) = (self.protected.clone(), self.stacks.clone(), targets.to_vec());
        let hit = tokio::task::spawn_blocking(move || {
            protected.hit(&judged, &stacks).map(|(entry, target)| (entry, target.to_string()))
        });
        let Ok(Ok(hit)) = tokio::time::timeout(LIMIT, hit).await else {
            return Some(format!(
                "refused: whether PROTECTED has this cannot be told, because the stacks folder {} does not answer. \
                 Nothing was done.",
                self.stacks.display()
            ));
        };
        let (entry, target) = hit?;
        Some(format!(
            "refused: this would change what is protected on this server: PROTECTED has {entry}, which {target} is or touches. \
             No tool may change it at any level; its operator would have to take it out of PROTECTED."
        ))
    }

    /// Whether this call may go on.
    pub(crate) async fn judge(&self, case: Case<'_>) -> Verdict {
        let refused = |message: String| Verdict::Answer { outcome: Outcome::Refused, message, code: None };
        if let Some(message) = self.protects(case.targets).await {
            return refused(message);
        }
        // Nobody can know what a command does.
        let arbitrary = case.about.open_world && case.about.worst == Effect::Destroy;
        if (case.effect == Effect::Destroy || arbitrary)
            && let Some(why) = &self.no_destroy
        {
            return refused(format!("refused: this may not be undone, and {why}. Set STATE_DIR to a writable folder."));
        }
        let bound = bound(&case);
        let mut ticket = Ticket {
            effect: case.effect,
            keys: case.targets.iter().map(Target::key).collect(),
            redeem: None,
            entry: entry(&case),
        };
        let must_ask = match self.confirm {
            Confirm::Never => false,
            Confirm::Changes => true,
            Confirm::Destructive => case.effect == Effect::Destroy,
        };
        if let Some(code) = case.code {
            if self.without_dialog == WithoutDialog::Deny {
                return refused(
                    "refused: this server takes no confirmation codes (CONFIRM_WITHOUT_DIALOG=deny). Nothing was done."
                        .to_owned(),
                );
            }
            // Also where nothing need be asked: a caller that brings a code expects it to be looked at.
            ticket.redeem = Some((code, bound));
            return Verdict::Go(ticket);
        }
        if !must_ask {
            return Verdict::Go(ticket);
        }
        let message = match case.detail {
            Some(detail) => format!("{}\n\n{detail}", case.summary),
            None => case.summary.to_owned(),
        };
        let declined = || refused("refused: the user said no. Nothing was done.".to_owned());
        let unanswered =
            || refused("refused: the user did not answer. Nothing was done; call again to ask again.".to_owned());
        match &case.call.dialog {
            Dialog::Later { said: None } => Verdict::Ask { message, state: self.codes.issue(&dialog(&bound)) },
            Dialog::Later { said: Some((Said::Yes, state)) } => {
                ticket.redeem = Some((state.clone(), dialog(&bound)));
                Verdict::Go(ticket)
            }
            Dialog::Later { said: Some((Said::No, _)) } => declined(),
            Dialog::Later { said: Some((Said::Nothing, _)) } => unanswered(),
            Dialog::Now(ask) => match ask(message).await {
                Said::Yes => Verdict::Go(ticket),
                Said::No => declined(),
                Said::Nothing => unanswered(),
            },
            Dialog::None => match self.without_dialog {
                WithoutDialog::Deny => refused(
                    "refused: this needs the user's confirmation, this client cannot show a dialog, and the server has \
                     CONFIRM_WITHOUT_DIALOG=deny. Nothing was done."
                        .to_owned(),
                ),
                WithoutDialog::Code => Verdict::Answer {
                    outcome: Outcome::NeedsConfirmation,
                    message: format!(
                        "{} Nothing was done yet. Tell the user what would happen; if they agree, call again with the same \
                         arguments and `confirm` set to the code (valid for {} minutes, once).",
                        case.summary,
                        confirm::LIFE.as_secs() / 60
                    ),
                    code: Some(self.codes.issue(&bound)),
                },
            },
        }
    }

    /// At the moment of acting. The error is a sentence for the caller; nothing was done.
    pub(crate) fn admit(&self, ticket: &Ticket) -> Result<Proof, String> {
        // The brakes first: a call that they hold must not cost its user's confirmation.
        let held = |held| format!("refused: {held}.");
        self.brakes.look(&ticket.keys).map_err(held)?;
        if let Some((code, bound)) = &ticket.redeem {
            self.codes
                .redeem(code, bound)
                .map_err(|rejected| format!("refused: {rejected}. Call again without `confirm` to get a new one."))?;
        }
        self.brakes.pass(&ticket.keys).map_err(held)?;
        let mut entry = ticket.entry.clone();
        entry.insert("phase".into(), json!("before"));
        self.audit.append(entry).map_err(|error| {
            format!("refused: the audit log cannot be written ({error}). Free the disk or correct AUDIT_LOG.")
        })?;
        Ok(Proof::minted(ticket.effect == Effect::Destroy, &Mint(())))
    }

    /// After acting. A failure is logged: the change cannot be taken back for it.
    pub(crate) fn record(&self, ticket: &Ticket, outcome: Outcome, message: &str, milliseconds: u128) {
        let mut entry = ticket.entry.clone();
        entry.insert("phase".into(), json!("after"));
        entry.insert("outcome".into(), json!(outcome));
        entry.insert("message".into(), json!(redact::mask_text(&message.chars().take(300).collect::<String>())));
        entry.insert("ms".into(), json!(u64::try_from(milliseconds).unwrap_or(u64::MAX)));
        if let Err(error) = self.audit.append(entry) {
            log::error!("the audit line after a change cannot be written: {error}");
        }
    }
}

/// What a confirmation holds for: this tool, these arguments, these very objects, this effect, this caller.
fn bound(case: &Case<'_>) -> String {
    // With their names: an id such as a vmid may be another guest's by the time the code comes back.
    let keys: Vec<_> = case.targets.iter().map(|target| (target.key(), &target.name)).collect();
    json!([case.about.name, case.effect.name(), keys, sorted(case.arguments), case.call.principal]).to_string()
}

/// A state that goes with a question is no code: it counts only with the user's answer.
fn dialog(bound: &str) -> String {
    format!("dialog {bound}")
}

/// The order in which a client writes its arguments does not matter.
fn sorted(map: &Map<String, Value>) -> Value {
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort_by_key(|(name, _)| name.as_str());
    json!(pairs)
}

fn entry(case: &Case<'_>) -> Map<String, Value> {
    let mut arguments = Value::Object(case.arguments.clone());
    redact::json(&mut arguments);
    shorten(&mut arguments);
    let Value::Object(entry) = json!({
        "call": state::hex(&rand::random::<[u8; 6]>()),
        "tool": case.about.name,
        "effect": case.effect.name(),
        "level": case.about.level,
        "principal": case.call.principal,
        "targets": case.targets,
        "arguments": arguments,
        "digest": state::sha256(sorted(case.arguments).to_string().as_bytes()),
    }) else {
        return Map::new();
    };
    entry
}

/// A whole compose file does not belong into a log line; its digest does.
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > 300 => {
            *text = format!("[{} characters, sha256 {}]", text.chars().count(), state::sha256(text.as_bytes()));
        }
        Value::String(text) => *text = redact::mask_text(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(map) => map.values_mut().for_each(shorten),
        _ => {}
    }
}
