//! The proof that the gate let a change through. Client methods that change something ask for one, and only the gate
//! can make one, so a reading tool that tries to restart a container does not compile.

/// Proof that a change was admitted. Not `Clone`: it belongs to one call.
#[derive(Debug)]
pub(crate) struct Change(());

/// Proof that something that cannot be undone was admitted. Serves as a [`Change`] too.
#[derive(Debug)]
pub(crate) struct Destroy(Change);

impl std::ops::Deref for Destroy {
    type Target = Change;

    fn deref(&self) -> &Change {
        &self.0
    }
}

/// What the gate hands to a tool's act, by the effect that was resolved.
#[derive(Debug)]
pub(crate) enum Proof {
    /// The call was judged as a change.
    Change(Change),
    /// The call was judged as a destruction.
    Destroy(Destroy),
}

impl Proof {
    /// Any proof allows a change.
    pub(crate) fn change(&self) -> &Change {
        match self {
            Self::Change(change) => change,
            Self::Destroy(destroy) => destroy,
        }
    }

    /// Only a proof of destruction allows one.
    pub(crate) fn destroy(&self) -> Option<&Destroy> {
        match self {
            Self::Change(_) => None,
            Self::Destroy(destroy) => Some(destroy),
        }
    }

    /// For the gate alone: see `gate::Gate::admit`, its only caller.
    pub(crate) fn minted(destroys: bool, _by: &crate::gate::Mint) -> Self {
        if destroys { Self::Destroy(Destroy(Change(()))) } else { Self::Change(Change(())) }
    }
}

/// For tests of clients' file handling, which need no gate.
#[cfg(test)]
pub(crate) fn destroy() -> Destroy {
    Destroy(Change(()))
}
