//! The services: what runs, and what start, stop and restart do to it.
//!
//! The API answers `ok` whatever happens here; only a later look at the list tells.

use super::grid::Row;
use super::profile::Profile;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What a row of the list stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process with a pid file.
    Daemon,
    /// Settings that can be applied again (`login`, `pf`, `routing`, `sysctl`): no process, shown locked and always
    /// running, no start and no stop.
    Virtual,
    /// A WireGuard instance: in the kernel, so shown locked and always running; yet it can be restarted.
    Tunnel,
    /// Carries the API itself: restarting it cuts the caller off.
    Carrier,
}

/// What happens when a service is started or restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// It runs at once, with a new pid.
    #[default]
    Normal,
    /// It is stopped and does not come up again.
    FailsToStart,
    /// It is stopped, and up again after this time.
    ComesUpAfter(Duration),
    /// It comes up and dies after this time.
    DiesAfter(Duration),
    /// Nothing happens at all: the old process goes on.
    Ignored,
}

#[derive(Clone, Copy, Debug)]
enum Process {
    Stopped,
    /// From one moment, perhaps to another.
    Lives {
        pid: u32,
        from: Instant,
        until: Option<Instant>,
    },
}

/// A row of `core/service/search`.
#[derive(Clone, Debug)]
pub struct Service {
    /// Shared by all instances of a service.
    pub name: String,
    /// What tells one of several instances; empty when there is only one.
    pub instance: String,
    /// For people.
    pub description: String,
    /// What the row stands for.
    pub kind: Kind,
    /// Shown as locked; [`Kind::Virtual`], [`Kind::Tunnel`] and [`Kind::Carrier`] always are. The API does not care.
    pub locked: bool,
    /// Naming one instance acts on all rows of the name, as for Kea.
    pub together: bool,
    /// What happens at the next start.
    pub behaviour: Behaviour,
    process: Process,
    starts: u64,
}

impl Service {
    /// A running daemon, `name` or `name/instance`.
    pub fn daemon(id: &str, description: &str) -> Self {
        let (name, instance) = id.split_once('/').unwrap_or((id, ""));
        Self {
            name: name.to_owned(),
            instance: instance.to_owned(),
            description: description.to_owned(),
            kind: Kind::Daemon,
            locked: false,
            together: false,
            behaviour: Behaviour::Normal,
            process: Process::Lives { pid: 0, from: Instant::now(), until: None },
            starts: 0,
        }
    }

    /// The same, of another kind.
    #[must_use]
    pub fn kind(self, kind: Kind) -> Self {
        Self { kind, locked: kind != Kind::Daemon, ..self }
    }

    /// The same, not running.
    #[must_use]
    pub fn stopped(self) -> Self {
        Self { process: Process::Stopped, ..self }
    }

    /// The same, shown as locked.
    #[must_use]
    pub fn locked(self) -> Self {
        Self { locked: true, ..self }
    }

    /// The same, acted on with all rows of its name.
    #[must_use]
    pub fn together(self) -> Self {
        Self { together: true, ..self }
    }

    /// `name` or `name/instance`, as the list says it.
    pub fn id(&self) -> String {
        if self.instance.is_empty() { self.name.clone() } else { format!("{}/{}", self.name, self.instance) }
    }

    /// Whether the list shows it as running now. Rows that the vendor does not check always are.
    pub fn running(&self) -> bool {
        matches!(self.kind, Kind::Virtual | Kind::Tunnel) || self.lives()
    }

    /// The process that runs now; none for rows without one.
    pub fn pid(&self) -> Option<u32> {
        match self.process {
            Process::Lives { pid, .. } if self.lives() && matches!(self.kind, Kind::Daemon | Kind::Carrier) => {
                Some(pid)
            }
            _ => None,
        }
    }

    /// How often it was started since the stand-in was made (applied, for rows without a process). A failed start
    /// does not count.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    fn lives(&self) -> bool {
        let now = Instant::now();
        matches!(self.process, Process::Lives { from, until, .. } if from <= now && until.is_none_or(|end| now < end))
    }

    fn begin(&mut self, pid: u32) {
        let now = Instant::now();
        let (from, until) = match self.behaviour {
            Behaviour::Ignored => return,
            Behaviour::FailsToStart => {
                self.process = Process::Stopped;
                return;
            }
            Behaviour::Normal => (now, None),
            Behaviour::ComesUpAfter(time) => (now + time, None),
            Behaviour::DiesAfter(time) => (now, Some(now + time)),
        };
        self.starts += 1;
        self.process = Process::Lives { pid, from, until };
    }

    fn row(&self) -> Row {
        let row = json!({
            "id": self.id(),
            "locked": u8::from(self.locked),
            "running": u8::from(self.running()),
            "description": self.description,
            "name": self.name,
        });
        match row {
            Value::Object(row) => row,
            _ => Row::new(),
        }
    }
}

/// What can be asked of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `core/service/start`
    Start,
    /// `core/service/restart`
    Restart,
    /// `core/service/stop`
    Stop,
}

/// A start, stop or restart that got past access control as a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// What was asked.
    pub verb: Verb,
    /// The name and the instance as they stood in the path.
    pub asked: (String, String),
    /// The rows it acted on, by id; empty for an unknown service, or a verb that a row does not know.
    pub touched: Vec<String>,
}

/// All rows, in the order of the list.
#[derive(Clone, Debug)]
pub struct Services {
    rows: Vec<Service>,
    next_pid: u32,
}

impl Services {
    /// These, sorted as the vendor does: by name without case, else as given.
    pub fn new(rows: Vec<Service>) -> Self {
        let mut services = Self { rows: Vec::new(), next_pid: 1000 };
        for row in rows {
            services.add(row);
        }
        services
    }

    /// What a home firewall of this release runs.
    pub fn standard(profile: Profile) -> Self {
        let new = profile >= Profile::V26_7;
        let gateway = |name: &str| match new {
            true => Service::daemon(&format!("dpinger/{name}"), &format!("Gateway {name}")),
            false => Service::daemon(&format!("dpinger/{name}"), &format!("Gateway monitor ({name})")),
        };
        let either = |old: &'static str, now: &'static str| if new { now } else { old };
        let mut rows = vec![
            Service::daemon("configd", either("System Configuration Daemon", "Configd")).kind(Kind::Carrier),
            Service::daemon("login", "Users and Groups").kind(Kind::Virtual),
            Service::daemon("routing", "System routing").kind(Kind::Virtual),
            Service::daemon("sysctl", "System tunables").kind(Kind::Virtual),
            Service::daemon("pf", "Packet Filter").kind(Kind::Virtual),
            Service::daemon("webgui", "Web GUI").kind(Kind::Carrier),
            Service::daemon("cron", "Cron"),
            Service::daemon("syslog-ng", either("Syslog-ng Daemon", "Syslog-ng")),
            Service::daemon("ntpd", either("Network Time Daemon", "Ntpd")),
            Service::daemon("openssh", either("Secure Shell Daemon", "Secure Shell")),
            Service::daemon("unbound", either("Unbound DNS", "Unbound")),
            Service::daemon("dnsmasq", either("Dnsmasq DNS", "Dnsmasq DNS/DHCP")).stopped(),
            Service::daemon("dpinger/:watcher:", either("Gateway monitor watcher", "Gateway Watcher")).locked(),
            gateway("WAN_DHCP"),
            gateway("LTE_GW"),
            gateway("VPN_GW"),
            Service::daemon("openvpn/5d7c2f10-1c7e-4b0e-9d55-2a60f3b7e001", "OpenVPN server Büro & Zuhause"),
            Service::daemon("openvpn/5d7c2f10-1c7e-4b0e-9d55-2a60f3b7e002", "OpenVPN server road warriors").stopped(),
            Service::daemon("wireguard/83b1d0aa-60c2-4d0f-8a31-7e5a9c11f001", "WireGuard home").kind(Kind::Tunnel),
            Service::daemon("wireguard/83b1d0aa-60c2-4d0f-8a31-7e5a9c11f002", "WireGuard office").kind(Kind::Tunnel),
        ];
        if profile < Profile::V25_1 {
            rows.push(Service::daemon("kea-dhcpv4", "KEA DHCPv4 server"));
        } else {
            rows.push(Service::daemon("kea-dhcp/v4", "KEA DHCPv4 server").together());
            rows.push(Service::daemon("kea-dhcp/ca", "KEA control agent").together());
        }
        Self::new(rows)
    }

    /// [`Self::standard`] and as many OpenVPN instances as it takes to have `total` rows.
    pub fn many(profile: Profile, total: usize) -> Self {
        let mut services = Self::standard(profile);
        for n in services.rows.len()..total {
            let id = format!("openvpn/a1b2c3d4-0000-4000-8000-{n:012}");
            services.add(Service::daemon(&id, &format!("OpenVPN server branch {n}")));
        }
        services
    }

    /// Puts one more row where it belongs.
    pub fn add(&mut self, mut service: Service) {
        if let Process::Lives { pid, .. } = &mut service.process {
            *pid = self.next_pid;
            self.next_pid += 7;
        }
        self.rows.push(service);
        self.rows.sort_by_key(|row| row.name.to_lowercase());
    }

    /// The row with this id (`name` or `name/instance`).
    pub fn get(&self, id: &str) -> Option<&Service> {
        self.rows.iter().find(|row| row.id() == id)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Service> {
        self.rows.iter_mut().find(|row| row.id() == id)
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.rows.iter()
    }

    pub(super) fn list(&self) -> Vec<Row> {
        self.rows.iter().map(Service::row).collect()
    }

    /// Does it, and says to which rows. A name alone means all of its instances; an instance has to match exactly.
    pub(super) fn control(&mut self, verb: Verb, name: &str, instance: &str) -> Vec<String> {
        let named = |row: &Service| row.name == name && (instance.is_empty() || row.instance == instance);
        let together = self.rows.iter().any(|row| named(row) && row.together);
        let mut touched = Vec::new();
        for row in &mut self.rows {
            if !(named(row) || together && row.name == name) {
                continue;
            }
            if row.kind == Kind::Virtual && verb != Verb::Restart {
                continue;
            }
            if verb == Verb::Stop {
                row.process = Process::Stopped;
            } else {
                row.begin(self.next_pid);
                self.next_pid += 7;
            }
            touched.push(row.id());
        }
        touched
    }
}
