//! The tools of Proxmox VE, by what they are about, and what several of them need.

mod acting;
mod backups;
mod config;
mod delete;
mod guests;
mod nodes;
mod power;
mod snapshots;
mod storage;

use crate::{
    Core,
    error::{Fault, Kind, ToolError},
    reply,
    tool::{Entry, changing, reading},
};

use super::{guest::Found, model::GuestType, place};

pub(crate) const TOOLS: &[Entry] = &[
    reading::<nodes::Status>(),
    reading::<guests::ListVms>(),
    reading::<guests::VmStatus>(),
    reading::<backups::ListBackups>(),
    reading::<snapshots::ListSnapshots>(),
    changing::<power::StartVm>(),
    changing::<power::StopVm>(),
    changing::<power::ShutdownVm>(),
    changing::<power::RebootVm>(),
    reading::<config::VmConfig>(),
    reading::<storage::ListStorage>(),
    reading::<nodes::ListNodes>(),
    changing::<snapshots::CreateSnapshot>(),
    changing::<delete::DeleteVm>(),
];

/// Words a failure: what was being done, and where.
fn failed(core: &Core, doing: impl Into<String>) -> impl FnOnce(Fault) -> ToolError {
    let (action, place) = (doing.into(), place(core));
    move |fault| fault.doing(action, place)
}

/// A refusal that the vendor would give too, foreseen.
fn refused(cause: impl Into<String>, hint: impl Into<String>) -> Fault {
    Fault::new(Kind::Conflict, cause).hint(hint)
}

/// The refusal of a locked guest, unless the vendor makes an exception for that lock.
fn unlocked(found: &Found, except: &[&str]) -> Result<(), Fault> {
    match found.now.lock.as_deref() {
        Some(lock) if !except.contains(&lock) => Err(refused(
            format!("{} is locked ({lock}), and Proxmox VE refuses until the lock is gone", found.label()),
            "Nothing was done. Wait for the backup, migration or whatever holds it and call again; a lock that was left \
             behind is taken off on the node with `qm unlock` or `pct unlock`.",
        )),
        _ => Ok(()),
    }
}

/// How many bytes of a page's rows fit.
fn budget(core: &Core) -> usize {
    reply::row_budget(core.config.max_result_chars)
}

/// `VM 105` or `CT 200`, where a guest has no name.
fn nameless(kind: GuestType, vmid: u32) -> String {
    format!("{} {vmid}", kind.noun())
}
