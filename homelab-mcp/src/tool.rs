//! What a tool is: one entry beside its handler. The listing, the level check, the schemas, the README's table and
//! the golden files all come from the entry, so adding a tool touches one file.
//!
//! A tool either reads ([`Read`]) or changes ([`Change`]). A changing tool is two functions: `resolve` looks at what the
//! caller named and says what would happen to which objects; `act` does it, with a proof that only the gate makes.

use std::{borrow::Cow, future::Future, pin::Pin, sync::Arc};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use shared::Level;

use crate::{
    Core, dialog::Dialog, error::ToolError, operations::Running, pipeline, progress::Progress, proof::Proof,
    reply::Answer, target::Target,
};

/// The groups that `TOOLSETS` switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolset {
    /// Serves the other tools; TOOLSETS does not switch it.
    Core,
    Docker,
    Compose,
    System,
    Opnsense,
    Truenas,
    Proxmox,
}

impl Toolset {
    /// Those that `TOOLSETS` takes.
    pub(crate) const ALL: [Self; 6] =
        [Self::Docker, Self::Compose, Self::System, Self::Opnsense, Self::Truenas, Self::Proxmox];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Docker => "docker",
            Self::Compose => "compose",
            Self::System => "system",
            Self::Opnsense => "opnsense",
            Self::Truenas => "truenas",
            Self::Proxmox => "proxmox",
        }
    }
}

/// What a tool does, beside the level that says who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// Changes nothing.
    Read,
    /// Changes something that can be changed back.
    Change,
    /// Loses something that cannot be had back.
    Destroy,
}

impl Effect {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Change => "change",
            Self::Destroy => "destroy",
        }
    }
}

/// What is said about a tool, once.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    /// For people, in a client's list.
    pub(crate) title: &'static str,
    /// For a model: when to use it, what it returns, what it does not.
    pub(crate) text: &'static str,
    pub(crate) level: Level,
    pub(crate) toolset: Toolset,
    /// The worst that a call can do. What one call does is judged when it is resolved.
    pub(crate) worst: Effect,
    /// Calling it twice is the same as calling it once.
    pub(crate) idempotent: bool,
    /// Reaches what this server does not know: other systems, arbitrary commands.
    pub(crate) open_world: bool,
    /// Members of the result whose text comes from containers, logs or other people.
    pub(crate) untrusted: &'static [&'static str],
}

/// One call, as a tool sees it.
#[derive(Clone)]
pub(crate) struct Call {
    /// Says how far it has come.
    pub(crate) progress: Progress,
    /// How its user can be asked.
    pub(crate) dialog: Dialog,
    /// Whom the gateway vouches for, else `local`.
    pub(crate) principal: Cow<'static, str>,
}

/// What reading and changing tools have in common.
pub(crate) trait Tool: Send + Sync + 'static {
    const ABOUT: About;
    type Args: DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// The result; for a changing tool, its members beside the envelope's.
    type Out: Serialize + JsonSchema + Send + 'static;

    /// What the log calls this call's object.
    fn subject(_args: &Self::Args) -> Option<String> {
        None
    }
}

/// A tool that changes nothing.
pub(crate) trait Read: Tool {
    fn read(core: Arc<Core>, call: Call, args: Self::Args)
    -> impl Future<Output = Result<Self::Out, ToolError>> + Send;
}

/// What a change would do, found out before it is judged.
pub(crate) struct Resolved<P> {
    /// Every object the change touches, the named one first.
    pub(crate) targets: Vec<Target>,
    /// What this very call does.
    pub(crate) effect: Effect,
    /// One sentence for the user who is asked: "Restart container web (running, nginx:1.27)."
    pub(crate) summary: String,
    /// Longer detail for a dry run and the question, for example a diff.
    pub(crate) detail: Option<String>,
    /// Set when there is nothing to do: "Container web was already running."
    pub(crate) unchanged: Option<String>,
    /// What `act` needs to know.
    pub(crate) plan: P,
}

/// What a change did.
pub(crate) struct Done<O> {
    pub(crate) outcome: Outcome,
    pub(crate) message: String,
    pub(crate) out: O,
}

impl<O> Done<O> {
    pub(crate) fn changed(message: impl Into<String>, out: O) -> Self {
        Self { outcome: Outcome::Changed, message: message.into(), out }
    }
}

/// How a change ended, or why it did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Changed,
    Unchanged,
    Planned,
    NeedsConfirmation,
    Running,
    Unknown,
    Refused,
    Failed,
}

impl Outcome {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Planned => "planned",
            Self::NeedsConfirmation => "needs_confirmation",
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// `isError` of the answer.
    pub(crate) const fn is_error(self) -> bool {
        matches!(self, Self::Refused | Self::Failed | Self::Unknown)
    }

    /// `success` of the earlier contract: the object is as asked for.
    pub(crate) const fn is_success(self) -> bool {
        matches!(self, Self::Changed | Self::Unchanged)
    }
}

/// A tool that changes something.
pub(crate) trait Change: Tool {
    type Plan: Send + 'static;

    /// The result's members that are known from the arguments alone, for answers that came before anything was done.
    fn known(args: &Self::Args) -> Self::Out;

    /// Finds the objects and what would happen to them. Changes nothing, and may be dropped at any time.
    fn resolve(
        core: &Core,
        call: &Call,
        args: &Self::Args,
    ) -> impl Future<Output = Result<Resolved<Self::Plan>, ToolError>> + Send;

    /// Does it. Runs in a task of its own: a caller that stops waiting does not stop it.
    fn act(
        core: Arc<Core>,
        running: Running,
        proof: Proof,
        plan: Self::Plan,
        args: Self::Args,
    ) -> impl Future<Output = Result<Done<Self::Out>, ToolError>> + Send;
}

/// What came of a call.
pub(crate) enum Flow {
    /// The answer.
    Done(Answer),
    /// The client is to ask its user and call again (2026-07-28).
    Ask { message: String, state: String },
}

type Run = fn(Arc<Core>, Call, Map<String, Value>) -> Pin<Box<dyn Future<Output = Flow> + Send>>;

/// One tool in the registry.
pub(crate) struct Entry {
    pub(crate) about: About,
    pub(crate) arguments: fn() -> Map<String, Value>,
    pub(crate) result: fn() -> Map<String, Value>,
    pub(crate) run: Run,
}

/// The entry of a reading tool.
pub(crate) const fn reading<T: Read>() -> Entry {
    Entry {
        about: T::ABOUT,
        arguments: crate::schema::arguments::<T::Args>,
        result: || crate::schema::result::<T::Out>(&T::ABOUT),
        run: |core, call, args| Box::pin(pipeline::read::<T>(core, call, args)),
    }
}

/// The entry of a changing tool.
pub(crate) const fn changing<T: Change>() -> Entry {
    Entry {
        about: T::ABOUT,
        arguments: || crate::schema::with_common(crate::schema::arguments::<T::Args>()),
        result: || crate::schema::result::<crate::reply::Envelope<T::Out>>(&T::ABOUT),
        run: |core, call, args| Box::pin(pipeline::change::<T>(core, call, args)),
    }
}
