//! The state of the stand-in: everything a test may look at and change.

use super::profile::Profile;
use super::route::Endpoint;
use super::services::{Control, Services};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What dpinger or the user says of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayState {
    /// `none`
    Online,
    /// `loss`
    Loss,
    /// `delay`
    Delay,
    /// `delay+loss`
    DelayAndLoss,
    /// `down`
    Down,
    /// `force_down`
    ForcedDown,
    /// A word that no release documents.
    Unheard,
}

/// Loss in percent, times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Percent.
    pub loss: f64,
    /// Milliseconds.
    pub delay: f64,
    /// Milliseconds.
    pub deviation: f64,
}

/// What a monitor knows of a gateway.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The address that is pinged.
    pub monitor: String,
    /// What the monitor says.
    pub state: GatewayState,
    /// None before the first answer (`~`).
    pub measured: Option<Measured>,
}

/// An item of `routes/gateway/status`.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// May hold spaces.
    pub name: String,
    /// None while it has no address: `~`.
    pub address: Option<String>,
    /// None when monitoring is switched off: then the status is `none` as for a healthy one, with `~` everywhere.
    pub watch: Option<Watch>,
}

impl Gateway {
    /// One whose own address is pinged.
    pub fn monitored(name: &str, address: &str, state: GatewayState, measured: Option<Measured>) -> Self {
        let watch = Watch { monitor: address.into(), state, measured };
        Self { name: name.into(), address: Some(address.into()), watch: Some(watch) }
    }

    /// One that nobody watches.
    pub fn unmonitored(name: &str, address: Option<&str>) -> Self {
        Self { name: name.into(), address: address.map(str::to_owned), watch: None }
    }
}

/// An entry of `core/system/status`.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Key of the entry as 24.x writes it (`CrashReporter`); lower case since 25.1.
    pub name: String,
    /// For people.
    pub title: String,
    /// -1 error, 0 warning, 1 notice, 2 OK.
    pub code: i8,
    /// For people.
    pub message: String,
    /// The page it belongs to; who may not see that page does not get the entry. On 24.x an entry without one spoils the
    /// whole answer.
    pub location: String,
    /// Seconds ago; none for entries without a time.
    pub age: Option<u64>,
}

/// What is known about updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// Nobody has looked yet: `product_check` is null, the status `none`.
    Unknown,
    /// Looked, nothing new.
    None,
    /// So many packages.
    Available {
        /// How many packages.
        packages: usize,
        /// Whether they need a reboot.
        reboot: bool,
    },
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes.
    pub total: u64,
    /// Bytes, the ARC included.
    pub used: u64,
    /// Bytes; none without ZFS.
    pub arc: Option<u64>,
}

/// A row of `system_disk`.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Dataset or device.
    pub device: String,
    /// `zfs`, `ufs`, `tmpfs`, `msdosfs`.
    pub filesystem: String,
    /// As `df -h` writes it.
    pub blocks: String,
    /// As `df -h` writes it.
    pub used: String,
    /// As `df -h` writes it.
    pub available: String,
    /// Percent.
    pub percent: u8,
    /// Path.
    pub mountpoint: String,
}

/// Percent, together 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    /// Percent.
    pub user: f64,
    /// Percent.
    pub nice: f64,
    /// Percent.
    pub system: f64,
    /// Percent.
    pub interrupt: f64,
    /// Percent.
    pub idle: f64,
}

/// The language of texts. Real keys get English whatever is set (seen on 26.7); German is there to prove that no text
/// decides anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// As the vendor answers keys.
    English,
    /// The worst case.
    German,
}

/// How an endpoint fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// configd refuses the action. What that looks like depends on the endpoint; for some it is an empty 200.
    Refused,
    /// 500 with a message for people and a title.
    UserException {
        /// May hold what HTML would need escaped; 26.7 escapes it.
        message: String,
        /// For people.
        title: String,
    },
    /// 500 that says nothing.
    Unexpected,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The answer to a bad key or secret; the vendor takes exactly 2 s.
    pub refused_key: Duration,
    /// `get_activity` watches for 2 s.
    pub activity: Duration,
    /// Start, stop and restart are synchronous.
    pub control: Duration,
    /// `POST core/firmware/status` looks for updates first.
    pub firmware_check: Duration,
    /// A call that needs configd while it is down; 210 s were seen.
    pub backend_down: Duration,
    /// How long configd or the web GUI are away when they are restarted.
    pub carrier_restart: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            refused_key: Duration::from_secs(2),
            activity: Duration::from_secs(2),
            control: Duration::from_millis(300),
            firmware_check: Duration::from_secs(1),
            backend_down: Duration::from_secs(210),
            carrier_restart: Duration::from_secs(2),
        }
    }
}

impl Times {
    /// Nothing takes time, but a backend that is down still takes 210 s and a carrier 2 s.
    pub fn quick() -> Self {
        let none = Duration::ZERO;
        Self { refused_key: none, activity: none, control: none, firmware_check: none, ..Self::default() }
    }
}

/// Everything behind the API.
#[derive(Clone, Debug)]
pub struct Firewall {
    /// Host and domain.
    pub name: String,
    /// Of texts for people.
    pub language: Language,
    /// How long things take.
    pub times: Times,
    /// Processor, as the kernel calls it.
    pub processor: String,
    /// Cores, and as many threads.
    pub cores: u32,
    /// What the processor does.
    pub cpu: Cpu,
    /// None: shown as not available.
    pub memory: Option<Memory>,
    /// Empty: `[]`.
    pub disks: Vec<Disk>,
    /// Bytes of each swap device.
    pub swap: Vec<(String, u64)>,
    /// Sensor and degrees Celsius.
    pub temperatures: Vec<(String, f64)>,
    /// 1, 5 and 15 minutes; none: not available.
    pub load: Option<[f64; 3]>,
    /// Empty: `failed`.
    pub gateways: Vec<Gateway>,
    /// Pending notices.
    pub notices: Vec<Notice>,
    /// What is known about updates.
    pub updates: Updates,
    /// All services.
    pub services: Services,
    /// Every start, stop and restart so far.
    pub controls: Vec<Control>,
    /// Endpoints that fail.
    pub failures: HashMap<Endpoint, Failure>,
    /// configd does not run: what needs it answers late and as if refused.
    pub backend_down: bool,
    uptime: Duration,
    since: Instant,
    /// configd is being restarted until then.
    pub(super) backend_back: Option<Instant>,
    /// The web GUI is being restarted until then.
    pub(super) web_back: Option<Instant>,
}

impl Firewall {
    pub(super) fn new(profile: Profile) -> Self {
        let gibi = 1u64 << 30;
        let disk = |device: &str, filesystem: &str, sizes: [&str; 3], percent, mountpoint: &str| Disk {
            device: device.into(),
            filesystem: filesystem.into(),
            blocks: sizes[0].into(),
            used: sizes[1].into(),
            available: sizes[2].into(),
            percent,
            mountpoint: mountpoint.into(),
        };
        let measured = |loss, delay, deviation| Some(Measured { loss, delay, deviation });
        Self {
            name: "fw.home.example".into(),
            language: Language::English,
            times: Times::default(),
            processor: "Intel(R) N100".into(),
            cores: 4,
            cpu: Cpu { user: 2.4, nice: 0.0, system: 1.3, interrupt: 0.2, idle: 96.1 },
            memory: Some(Memory { total: 8 * gibi - 93_769_728, used: 2 * gibi, arc: Some(gibi / 2) }),
            disks: vec![
                disk("zroot/ROOT/default", "zfs", ["112G", "3.4G", "109G"], 3, "/"),
                disk("/dev/gpt/efiboot0", "msdosfs", ["260M", "1.3M", "259M"], 1, "/boot/efi"),
                disk("tmpfs", "tmpfs", ["3.9G", "2.8M", "3.9G"], 0, "/tmp"),
            ],
            swap: vec![("/dev/gpt/swap0".into(), 8 * gibi)],
            temperatures: vec![
                ("dev.cpu.0.temperature".into(), 43.0),
                ("dev.cpu.1.temperature".into(), 44.0),
                ("hw.acpi.thermal.tz0.temperature".into(), 27.9),
            ],
            load: Some([0.42, 0.37, 0.30]),
            gateways: vec![
                Gateway::monitored("WAN_DHCP", "203.0.113.1", GatewayState::Online, measured(0.0, 8.1, 0.4)),
                Gateway::monitored("LTE_GW", "192.0.2.8", GatewayState::Down, measured(100.0, 0.0, 0.0)),
                Gateway::monitored("VPN_GW", "198.51.100.9", GatewayState::Loss, measured(12.0, 41.0, 9.1)),
                Gateway::unmonitored("WAN_DHCP6", None),
            ],
            notices: Vec::new(),
            updates: Updates::None,
            services: Services::standard(profile),
            controls: Vec::new(),
            failures: HashMap::new(),
            backend_down: false,
            // 12 days, 03:04:05
            uptime: Duration::from_secs(12 * 86_400 + 3 * 3600 + 4 * 60 + 5),
            since: Instant::now(),
            backend_back: None,
            web_back: None,
        }
    }

    /// Time since the boot.
    pub fn uptime(&self) -> Duration {
        self.uptime + self.since.elapsed()
    }

    /// As if booted this long ago.
    pub fn set_uptime(&mut self, uptime: Duration) {
        (self.uptime, self.since) = (uptime, Instant::now());
    }
}
