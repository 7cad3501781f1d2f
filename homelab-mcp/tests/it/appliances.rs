//! Stand-ins of appliances on loopback, and cores that are told where they are.

use std::sync::Arc;

use lab::{Appliance, Options, Reply, Request, Seen, Server};

use crate::support::{Core, Ran, run};

/// A stand-in that is listening. `lab` is what is behind its API, to look at and to change.
pub(crate) struct Machine<A> {
    pub(crate) lab: Arc<A>,
    pub(crate) server: Arc<Server>,
}

impl<A: Appliance> Machine<A> {
    /// Over TLS, with a certificate that signed itself.
    pub(crate) fn start(lab: Arc<A>) -> Self {
        let server = Arc::new(Server::start(lab.clone(), Options::default()).unwrap());
        Self { lab, server }
    }

    /// The variables that lead to it and trust its certificate; `prefix` as in `OPNSENSE`. The keys are up to the caller.
    pub(crate) fn env(&self, prefix: &str) -> Env {
        Env::default()
            .and(&format!("{prefix}_HOST"), &self.server.host())
            .and(&format!("{prefix}_TLS_FINGERPRINT"), self.server.fingerprint())
    }

    /// What it was asked, by method and beginning of the path.
    pub(crate) fn seen(&self, method: &str, path: &str) -> Vec<Seen> {
        let fits = |seen: &Seen| seen.method == method && seen.target.starts_with(path);
        self.server.seen().into_iter().filter(fits).collect()
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> usize {
        self.server.seen().len()
    }
}

/// Variables of a core.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env(Vec<(String, String)>);

impl Env {
    /// With one more; the last of a name counts.
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With those of another appliance.
    pub(crate) fn with(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// As the lines of a file for `--env-file`.
    pub(crate) fn file(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// A core of level 4 without brakes, unless the variables say otherwise.
    pub(crate) fn core(&self) -> Core {
        let free = [("CAPABILITY_LEVEL", "4"), ("CHANGES_PER_MINUTE", "0"), ("CHANGES_PER_OBJECT", "0")];
        let own = self.pairs();
        let free = free.into_iter().filter(|(name, _)| !own.iter().any(|(known, _)| known == name));
        Core::start(&free.chain(own.iter().copied()).collect::<Vec<_>>())
    }

    /// A run of `--check`.
    pub(crate) fn check(&self) -> Ran {
        run(&["--check"], &self.pairs(), b"")
    }
}

/// An appliance that answers everything in one way.
pub(crate) struct Always<F>(pub(crate) F);

impl<F: Fn(&Request) -> Reply + Send + Sync + 'static> Appliance for Always<F> {
    fn answer(&self, request: &Request) -> Reply {
        (self.0)(request)
    }
}
