//! Where the appliances are and how we sign in to them. A half-configured one stops the start: its tools would only
//! fail later, one by one.

use std::time::Duration;

use shared::{Secret, vars::Vars};

use crate::{
    http::{Address, origin::Origin, trust},
    tool::Toolset,
};

/// A Proxmox VE cluster.
#[derive(Clone, Debug)]
pub(crate) struct Proxmox {
    pub(crate) address: Address,
    /// `user@realm!name`.
    pub(crate) token_id: String,
    pub(crate) token_secret: Secret,
}

/// A TrueNAS system.
#[derive(Clone, Debug)]
pub(crate) struct Truenas {
    pub(crate) address: Address,
    pub(crate) api_key: Secret,
    /// The key's owner; with it a failed login says why, and newer releases need it.
    pub(crate) username: Option<String>,
}

/// An OPNsense firewall.
#[derive(Clone, Debug)]
pub(crate) struct Opnsense {
    pub(crate) address: Address,
    pub(crate) api_key: Secret,
    pub(crate) api_secret: Secret,
}

/// All of them, where they are configured.
#[derive(Clone, Debug)]
pub(crate) struct Appliances {
    pub(crate) proxmox: Option<Proxmox>,
    pub(crate) truenas: Option<Truenas>,
    pub(crate) opnsense: Option<Opnsense>,
}

impl Appliances {
    pub(super) fn read(v: &mut Vars) -> Self {
        Self { proxmox: proxmox(v), truenas: truenas(v), opnsense: opnsense(v) }
    }

    /// How long one request to a toolset's appliance may take; `None` when it has none.
    pub(crate) fn timeout(&self, toolset: Toolset) -> Option<Duration> {
        let address = match toolset {
            Toolset::Proxmox => self.proxmox.as_ref().map(|proxmox| &proxmox.address),
            Toolset::Truenas => self.truenas.as_ref().map(|truenas| &truenas.address),
            Toolset::Opnsense => self.opnsense.as_ref().map(|opnsense| &opnsense.address),
            Toolset::Core | Toolset::Docker | Toolset::Compose | Toolset::System => None,
        };
        address.map(|address| address.timeout)
    }

    /// The prefix of each appliance whose certificate is not checked.
    pub(crate) fn unverified(&self) -> Vec<&'static str> {
        let addresses = [
            self.proxmox.as_ref().map(|proxmox| &proxmox.address),
            self.truenas.as_ref().map(|truenas| &truenas.address),
            self.opnsense.as_ref().map(|opnsense| &opnsense.address),
        ];
        let off = addresses.into_iter().flatten().filter(|address| address.trust == trust::Choice::Off);
        off.map(|address| address.prefix).collect()
    }
}

/// Notes a problem when some of what belongs together is set and some is not. True when all is there.
fn whole(v: &mut Vars, given: &[(&str, bool)]) -> bool {
    let names = |set: bool| given.iter().filter(|(_, is)| *is == set).map(|(name, _)| *name).collect::<Vec<_>>();
    let (there, missing) = (names(true), names(false));
    if !there.is_empty() && !missing.is_empty() {
        v.problem(format!(
            "{} is set, but {} is not. Set all of {}, or none.",
            there.join(" and "),
            missing.join(" and "),
            given.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
        ));
    }
    missing.is_empty()
}

/// A secret that fits in a header.
fn key(v: &mut Vars, name: &str) -> Option<Secret> {
    let secret = v.secret(name)?;
    if !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        v.problem(format!("{name}: holds a space, a line end or a letter beyond ASCII. Copy it again."));
        return None;
    }
    Some(secret)
}

/// Reads the addresses and the trust. `members`: whether a comma list is taken.
fn address(v: &mut Vars, prefix: &'static str, port: u16, members: bool) -> Option<Address> {
    let host = format!("{prefix}_HOST");
    let mut origins = Vec::new();
    for item in v.list(&host) {
        match item.parse::<Origin>() {
            Ok(origin) => origins.push(origin.or_port(port)),
            Err(error) => v.problem(format!("{host}: {error}.")),
        }
    }
    if v.list(&host).is_empty() && v.text(&host).is_some() {
        v.problem(format!("{host}: names no host."));
    }
    if origins.len() > 1 && !members {
        v.problem(format!("{host}: names several hosts. Name one."));
    }
    let timeout = Duration::from_secs(v.number(&format!("{prefix}_TIMEOUT"), 15, 1..=3600));
    let trust = trust(v, prefix);
    (!origins.is_empty()).then_some(Address { prefix, members: origins, trust, timeout })
}

fn trust(v: &mut Vars, prefix: &str) -> trust::Choice {
    let (ca, pin, verify) =
        (format!("{prefix}_CA_FILE"), format!("{prefix}_TLS_FINGERPRINT"), format!("{prefix}_TLS_VERIFY"));
    let file = v.path(&ca);
    let mut fingerprints = Vec::new();
    let given = v.list(&pin);
    for item in &given {
        match item.parse::<trust::Fingerprint>() {
            Ok(fingerprint) => fingerprints.push(fingerprint),
            Err(error) => v.problem(format!("{pin}: {error}.")),
        }
    }
    let words = [("true", true), ("false", false), ("on", true), ("off", false), ("1", true), ("0", false)];
    let off = v.word(&verify, &words) == Some(false);
    let chosen: Vec<_> = [(&ca, file.is_some()), (&pin, !given.is_empty()), (&verify, off)]
        .into_iter()
        .filter_map(|(name, is)| is.then_some(name.as_str()))
        .collect();
    if chosen.len() > 1 {
        v.problem(format!("{} exclude each other. Keep one of them.", chosen.join(" and ")));
    }
    match file {
        Some(file) => trust::Choice::CaFile(file),
        None if !fingerprints.is_empty() => trust::Choice::Fingerprints(fingerprints),
        None if off => trust::Choice::Off,
        None => trust::Choice::System,
    }
}

fn proxmox(v: &mut Vars) -> Option<Proxmox> {
    let hosts = v.text("PROXMOX_HOST").is_some();
    let token_id = v.text("PROXMOX_TOKEN_ID");
    // Its half of the header cannot hold what the server splits at.
    if let Some(id) = &token_id
        && !(id.is_ascii()
            && !id.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control())
            && id.split_once('!').is_some_and(|(user, name)| user.contains('@') && !name.is_empty()))
    {
        v.problem(format!(
            "PROXMOX_TOKEN_ID: `{id}` is not of the form user@realm!name, for example root@pam!homelab."
        ));
    }
    let token_secret = key(v, "PROXMOX_TOKEN_SECRET");
    let secret_given = token_secret.is_some() || given(v, "PROXMOX_TOKEN_SECRET");
    let address = address(v, "PROXMOX", 8006, true);
    let parts =
        [("PROXMOX_HOST", hosts), ("PROXMOX_TOKEN_ID", token_id.is_some()), ("PROXMOX_TOKEN_SECRET", secret_given)];
    whole(v, &parts).then_some(())?;
    Some(Proxmox { address: address?, token_id: token_id?, token_secret: token_secret? })
}

fn truenas(v: &mut Vars) -> Option<Truenas> {
    let hosts = v.text("TRUENAS_HOST").is_some();
    let api_key = key(v, "TRUENAS_API_KEY");
    let key_given = api_key.is_some() || given(v, "TRUENAS_API_KEY");
    let username = v.text("TRUENAS_USERNAME");
    let address = address(v, "TRUENAS", 443, false);
    whole(v, &[("TRUENAS_HOST", hosts), ("TRUENAS_API_KEY", key_given)]).then_some(())?;
    Some(Truenas { address: address?, api_key: api_key?, username })
}

fn opnsense(v: &mut Vars) -> Option<Opnsense> {
    let hosts = v.text("OPNSENSE_HOST").is_some();
    let (api_key, api_secret) = (key(v, "OPNSENSE_API_KEY"), key(v, "OPNSENSE_API_SECRET"));
    let parts = [
        ("OPNSENSE_HOST", hosts),
        ("OPNSENSE_API_KEY", api_key.is_some() || given(v, "OPNSENSE_API_KEY")),
        ("OPNSENSE_API_SECRET", api_secret.is_some() || given(v, "OPNSENSE_API_SECRET")),
    ];
    let address = address(v, "OPNSENSE", 443, false);
    whole(v, &parts).then_some(())?;
    Some(Opnsense { address: address?, api_key: api_key?, api_secret: api_secret? })
}

/// Whether a secret was given in either way, also one whose file cannot be read: that has been said already.
fn given(v: &mut Vars, name: &str) -> bool {
    v.text(name).is_some() || v.text(&format!("{name}_FILE")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Appliances, Vec<String>) {
        let mut vars = Vars::from_pairs(pairs.iter().copied());
        let appliances = Appliances::read(&mut vars);
        (appliances, vars.finish().err().map_or_else(Vec::new, |problems| problems.0))
    }

    #[test]
    fn a_half_configured_appliance_names_what_is_missing() {
        for (pairs, missing) in [
            (&[("PROXMOX_HOST", "pve")][..], "PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET is not"),
            (&[("PROXMOX_HOST", "pve"), ("PROXMOX_TOKEN_ID", "a@pam!b")], "but PROXMOX_TOKEN_SECRET is not"),
            (&[("TRUENAS_API_KEY", "1-x")], "but TRUENAS_HOST is not"),
            (&[("OPNSENSE_HOST", "fw"), ("OPNSENSE_API_KEY", "k")], "but OPNSENSE_API_SECRET is not"),
        ] {
            let (appliances, problems) = read(pairs);
            assert!(problems.len() == 1 && problems[0].contains(missing), "{problems:?}");
            assert!(appliances.proxmox.is_none() && appliances.truenas.is_none() && appliances.opnsense.is_none());
        }
    }

    #[test]
    fn a_cluster_has_members_and_the_others_have_one() {
        let token = [("PROXMOX_TOKEN_ID", "a@pam!b"), ("PROXMOX_TOKEN_SECRET", "s")];
        let (appliances, problems) =
            read(&[&token[..], &[("PROXMOX_HOST", "pve1, https://pve2:8443/,[fd00::3]")]].concat());
        assert!(problems.is_empty(), "{problems:?}");
        let members: Vec<_> = appliances.proxmox.unwrap().address.members.iter().map(ToString::to_string).collect();
        assert_eq!(members, ["pve1:8006", "pve2:8443", "[fd00::3]:8006"]);
        let (_, problems) = read(&[("TRUENAS_HOST", "a,b"), ("TRUENAS_API_KEY", "1-x")]);
        assert!(problems[0].contains("several hosts"), "{problems:?}");
    }

    #[test]
    fn a_host_that_is_only_a_comma_is_a_problem_and_not_an_absent_appliance() {
        let (_, problems) =
            read(&[("PROXMOX_HOST", ","), ("PROXMOX_TOKEN_ID", "a@pam!b"), ("PROXMOX_TOKEN_SECRET", "s")]);
        assert_eq!(problems, ["PROXMOX_HOST: names no host."]);
    }

    #[test]
    fn trust_is_one_choice() {
        let pin = "AB:".repeat(31) + "AB";
        let (_, problems) =
            read(&[("TRUENAS_TLS_FINGERPRINT", &pin), ("TRUENAS_CA_FILE", "/x.pem"), ("TRUENAS_TLS_VERIFY", "off")]);
        assert!(
            problems.len() == 1
                && problems[0].contains("TRUENAS_CA_FILE and TRUENAS_TLS_FINGERPRINT and TRUENAS_TLS_VERIFY exclude"),
            "{problems:?}"
        );
        let both = format!("{pin},{}", pin.replace("AB", "cd"));
        let (appliances, problems) =
            read(&[("TRUENAS_HOST", "nas"), ("TRUENAS_API_KEY", "1-x"), ("TRUENAS_TLS_FINGERPRINT", &both)]);
        assert!(problems.is_empty(), "{problems:?}");
        let trust = appliances.truenas.unwrap().address.trust;
        assert!(matches!(trust, trust::Choice::Fingerprints(pins) if pins.len() == 2));
    }

    #[test]
    fn what_cannot_be_a_key_is_told_without_it() {
        let (_, problems) = read(&[
            ("PROXMOX_HOST", "http://pve"),
            ("PROXMOX_TOKEN_ID", "root@pam!x=1234"),
            ("PROXMOX_TOKEN_SECRET", "hush hush"),
            ("OPNSENSE_TLS_FINGERPRINT", "ab:cd"),
        ]);
        let all = problems.join("\n");
        for part in [
            "PROXMOX_HOST: `http://pve` would send",
            "PROXMOX_TOKEN_ID",
            "PROXMOX_TOKEN_SECRET: holds a space",
            "OPNSENSE_TLS_FINGERPRINT: `ab:cd`",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        assert!(!all.contains("hush"), "{all}");
    }
}
