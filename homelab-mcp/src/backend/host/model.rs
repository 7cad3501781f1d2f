//! The state of the machine as one answer: what it is, how busy it is, how full it is.
//!
//! Responsible for the shape of the answer ([`SystemInfo`], whose doc comments are its JSON
//! schema) and for taking the measurement ([`Sampler`]). Two readings of the CPU counters with
//! time between them make a percentage, so the measurement has a start and a finish; the waiting
//! in between, the time-out of the whole and the thread it runs on are the caller's. File systems
//! are `mounts`' business, temperatures `sensors`'.
//!
//! In a container with the host's root directory mounted (`HOST_ROOT`), the answer is about the
//! host. Docker gives a container its own host name, mounts and network, so these are read from
//! the files of the host's init process below that root; CPU, memory, load, uptime, pressure and
//! temperatures are the kernel's own and the same everywhere.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use schemars::JsonSchema;
use serde::Serialize;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, Networks, System};

#[cfg(target_os = "linux")]
use super::{mounts, sensors};

/// State of the machine at one moment. What could not be measured is absent, and `notes` says why.
/// Sizes called `_gb` are GiB (1024^3 bytes).
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct SystemInfo {
    /// Host name; with HOST_ROOT from the host's /etc/hostname.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<String>,
    /// Name and version of the operating system, from os-release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) os: Option<String>,
    /// Release of the running kernel, as `uname -r`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Option<String>,
    /// Hardware architecture, such as x86_64 or aarch64.
    pub(crate) architecture: String,
    /// Whether this server runs inside a container.
    pub(crate) inside_container: bool,
    /// Directory the host's root file system was read from, when HOST_ROOT is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host_root: Option<String>,
    /// Hours since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uptime_hours: Option<f64>,

    /// Number of online logical CPUs of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_count: Option<u64>,
    /// Share of all CPUs together that was busy during `measured_over_ms`, 0 to 100.
    /// Waiting for disks counts as idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_percent: Option<f64>,
    /// Milliseconds over which `cpu_percent` was measured.
    pub(crate) measured_over_ms: u64,
    /// Load averages; compare them with `cpu_count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load_average: Option<LoadAverage>,
    /// How long work stood still for want of a resource (Linux PSI): why a machine feels slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pressure: Option<Pressure>,

    /// Memory in use, in GiB: total less available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_used_gb: Option<f64>,
    /// Memory of the machine, in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_total_gb: Option<f64>,
    /// Memory that programs can still get without swapping, in GiB; includes caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_available_gb: Option<f64>,
    /// Memory in use, in percent of the total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_percent: Option<f64>,
    /// Swap space in use, in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) swap_used_gb: Option<f64>,
    /// Swap space, in GiB; 0 when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) swap_total_gb: Option<f64>,

    /// Root file system: space in use, in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_used_gb: Option<f64>,
    /// Root file system: size, in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_total_gb: Option<f64>,
    /// Root file system: space in use, in percent of what users can have, as `df` counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_percent: Option<f64>,
    /// Each real file system once, local and network ones, by mount point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) filesystems: Vec<FileSystem>,

    /// Temperature sensors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) temperatures: Vec<Temperature>,
    /// Network interfaces, without loopback and the ones made per container or virtual machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) network: Vec<Interface>,
    /// What could not be measured or means something else than expected, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// Average number of processes running or waiting for CPU or disk.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LoadAverage {
    /// Over the last minute.
    pub(crate) one: f64,
    /// Over the last five minutes.
    pub(crate) five: f64,
    /// Over the last fifteen minutes.
    pub(crate) fifteen: f64,
}

/// Pressure stall information of the whole machine, from /proc/pressure.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Pressure {
    /// Waiting for a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<Stall>,
    /// Waiting for memory: reclaiming, swapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Stall>,
    /// Waiting for disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) io: Option<Stall>,
}

/// Share of time in which tasks waited, in percent.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Stall {
    /// At least one task waited; percent of the last 10 seconds.
    pub(crate) some_avg10: f64,
    /// At least one task waited; percent of the last 60 seconds.
    pub(crate) some_avg60: f64,
    /// All tasks waited at once; percent of the last 10 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) full_avg10: Option<f64>,
    /// All tasks waited at once; percent of the last 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) full_avg60: Option<f64>,
}

/// One file system. Numbers are from statvfs and absent when it is unreachable or has no size.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct FileSystem {
    /// Where it is mounted; with HOST_ROOT the path on the host.
    pub(crate) mount: String,
    /// What is mounted: a block device, a ZFS dataset, a network share.
    pub(crate) device: String,
    /// Type of the file system, such as ext4, zfs or nfs4.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Bytes in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) used_bytes: Option<u64>,
    /// Size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_bytes: Option<u64>,
    /// Bytes that unprivileged users can still write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) available_bytes: Option<u64>,
    /// Space in use, in percent of used and available space, as `df` counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) used_percent: Option<f64>,
    /// Inodes (files) in use, in percent; absent where there is no fixed number of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inodes_used_percent: Option<f64>,
    /// Whether it is mounted read-only, also by the kernel after an error.
    pub(crate) read_only: bool,
    /// True when it did not answer in time, failed, or cannot be seen from here: see `notes`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unreachable: bool,
}

/// What statvfs tells about a file system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Space {
    /// Size in bytes; not 0.
    pub(crate) total: u64,
    /// Bytes in use.
    pub(crate) used: u64,
    /// Bytes that unprivileged users can still write.
    pub(crate) available: u64,
    /// Inodes in use, in percent, where there is a fixed number of them.
    pub(crate) inodes_used_percent: Option<f64>,
}

impl Space {
    /// Space in use as `df` counts it: what is reserved for root belongs to neither side.
    fn used_percent(&self) -> Option<f64> {
        percent(self.used, self.used.saturating_add(self.available))
    }
}

impl FileSystem {
    /// The same file system with its numbers filled in.
    pub(crate) fn with_space(self, space: Space) -> Self {
        Self {
            used_bytes: Some(space.used),
            total_bytes: Some(space.total),
            available_bytes: Some(space.available),
            used_percent: space.used_percent(),
            inodes_used_percent: space.inodes_used_percent,
            ..self
        }
    }
}

/// One temperature sensor.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Temperature {
    /// Kind of chip and which of its sensors, such as "coretemp Package id 0".
    pub(crate) sensor: String,
    /// Device the sensor is in, such as sda or nvme0, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    /// Degrees Celsius.
    pub(crate) celsius: f64,
    /// Degrees Celsius above which the device calls it critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) critical_celsius: Option<f64>,
}

/// Totals of one network interface since it came up, usually since boot.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Interface {
    /// Name of the interface.
    pub(crate) interface: String,
    /// Bytes received.
    pub(crate) rx_bytes: u64,
    /// Bytes sent.
    pub(crate) tx_bytes: u64,
    /// Damaged or lost packets while receiving.
    pub(crate) rx_errors: u64,
    /// Packets that could not be sent.
    pub(crate) tx_errors: u64,
}

/// A measurement under way: the first reading of the CPU counters has been taken.
///
/// The caller sleeps between [`start`](Self::start) and [`finish`](Self::finish), at least
/// [`MINIMUM_CPU_UPDATE_INTERVAL`] (200 ms on Linux); dropping it instead costs nothing.
pub(crate) struct Sampler {
    root: PathBuf,
    system: Option<System>,
    started: Instant,
}

impl Sampler {
    /// Takes the first reading. `root` is `/`, or where the host's root directory is mounted.
    pub(crate) fn start(root: &Path) -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self {
            root: root.to_owned(),
            system,
            // After the reading: sysinfo skips a second one that comes too early by its own clock,
            // and would then tell the average since boot. Ours must not run ahead of it.
            started: Instant::now(),
        }
    }

    /// Takes the second reading and everything else. Blocks, for about two seconds when a file
    /// system does not answer, else for milliseconds.
    pub(crate) fn finish(mut self) -> SystemInfo {
        let elapsed = self.started.elapsed();
        let mut info = SystemInfo {
            measured_over_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            ..SystemInfo::default()
        };
        let root = info.choose_root(&self.root);
        info.describe(&root);
        match &mut self.system {
            Some(system) => {
                system.refresh_cpu_usage();
                system.refresh_memory();
                if elapsed >= MINIMUM_CPU_UPDATE_INTERVAL {
                    info.add_cpu(system);
                } else {
                    info.note("cpu_percent: the two readings were too close together");
                }
                info.add_memory(system);
            }
            None => info.note("CPU and memory cannot be measured on this operating system"),
        }
        info.add_load();
        info.add_disks(&root);
        info.add_temperatures();
        info.add_network(&root);
        info
    }
}

/// The parts of a measurement; each fills in its fields and notes what it could not find out.
impl SystemInfo {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Decides which root to describe, and says so when the answer may surprise.
    fn choose_root(&mut self, root: &Path) -> PathBuf {
        let own = PathBuf::from("/");
        self.inside_container = inside_container();
        if root == own {
            if self.inside_container {
                self.note(
                    "this runs in a container without HOST_ROOT: host name, operating system, \
                     disks and network are the container's; the rest is the machine's",
                );
            }
            return own;
        }
        if !cfg!(target_os = "linux") {
            self.note("HOST_ROOT is ignored: it works on Linux only");
            return own;
        }
        self.host_root = Some(root.display().to_string());
        // Mount points are compared with it later, and the kernel's are free of symbolic links.
        root.canonicalize().unwrap_or_else(|error| {
            self.note(format!("HOST_ROOT {}: {error}", root.display()));
            root.to_owned()
        })
    }

    /// Host name, operating system, kernel, uptime.
    fn describe(&mut self, root: &Path) {
        // Not <root>/proc/sys/kernel/hostname: that file answers with the reader's own name.
        self.hostname = if is_own(root) {
            System::host_name().ok()
        } else {
            read_first(root, &["etc/hostname", "etc/HOSTNAME"])
                .and_then(|text| text.split_whitespace().next().map(str::to_owned))
        };
        if self.hostname.is_none() {
            self.note("hostname: not found, there is no /etc/hostname to read");
        }
        self.os = read_first(root, &["etc/os-release", "usr/lib/os-release"])
            .and_then(|text| pretty_name(&text))
            .or_else(|| System::long_os_version().ok().filter(|_| is_own(root)));
        self.kernel = System::kernel_version().ok();
        self.architecture = System::cpu_arch();
        self.uptime_hours = System::uptime()
            .ok()
            .filter(|&seconds| seconds > 0)
            .and_then(|seconds| rounded(seconds as f64 / 3600.0, 2));
    }

    fn add_cpu(&mut self, system: &System) {
        let count = system.cpus().len();
        if count == 0 {
            self.note("CPU: /proc/stat cannot be read");
            return;
        }
        self.cpu_count = Some(count as u64);
        self.cpu_percent = rounded(f64::from(system.global_cpu_usage()).clamp(0.0, 100.0), 1);
    }

    fn add_memory(&mut self, system: &System) {
        let total = system.total_memory();
        if total == 0 {
            self.note("memory: /proc/meminfo cannot be read");
            return;
        }
        // Not sysinfo's used_memory(): it subtracts unchecked, and lxcfs is known for odd numbers.
        let available = system.available_memory().min(total);
        let swap = system.total_swap();
        self.memory_total_gb = gib(total);
        self.memory_available_gb = gib(available);
        self.memory_used_gb = gib(total - available);
        self.memory_percent = percent(total - available, total);
        self.swap_total_gb = gib(swap);
        self.swap_used_gb = gib(swap.saturating_sub(system.free_swap()));
        if let Some(limit) = system.cgroup_limits().map(|limits| limits.total_memory)
            && limit < total
            && let Some(limit) = gib(limit)
        {
            self.note(format!("memory is the whole machine's; this server itself is limited to {limit} GiB"));
        }
    }

    /// Load averages and pressure.
    fn add_load(&mut self) {
        self.load_average = System::load_average().ok().and_then(|load| {
            Some(LoadAverage {
                one: rounded(load.one, 2)?,
                five: rounded(load.five, 2)?,
                fifteen: rounded(load.fifteen, 2)?,
            })
        });
        if self.load_average.is_none() {
            self.note("load_average: cannot be read on this system");
        }
        let stall = |resource| {
            let text = std::fs::read_to_string(Path::new("/proc/pressure").join(resource)).ok()?;
            parse_stall(&text)
        };
        let pressure = Pressure {
            // The kernel defines no "full" for the CPU of a whole machine; it prints zeros.
            cpu: stall("cpu").map(|some| Stall { full_avg10: None, full_avg60: None, ..some }),
            memory: stall("memory"),
            io: stall("io"),
        };
        if pressure.cpu.is_some() || pressure.memory.is_some() || pressure.io.is_some() {
            self.pressure = Some(pressure);
        } else {
            self.note("pressure: this kernel does not offer /proc/pressure");
        }
    }

    fn set_root_space(&mut self, space: Space) {
        self.disk_used_gb = gib(space.used);
        self.disk_total_gb = gib(space.total);
        self.disk_percent = space.used_percent();
    }

    #[cfg(target_os = "linux")]
    fn add_disks(&mut self, root: &Path) {
        let own = read_below(Path::new("/"), "proc/self/mountinfo").unwrap_or_else(|error| {
            self.note(format!("filesystems: /proc/self/mountinfo: {error}"));
            String::new()
        });
        let mounts = if is_own(root) {
            mounts::own(&own)
        } else if let Ok(host) = read_below(root, "proc/1/mountinfo") {
            mounts::of_host(&host, &own, root)
        } else {
            self.note(format!(
                "filesystems: {}/proc/1/mountinfo cannot be read, so only mounts that this \
                 container itself sees below HOST_ROOT are listed",
                root.display()
            ));
            mounts::below(&own, root)
        };
        let disks = mounts::measure(root, mounts);
        if let Some(space) = disks.root {
            self.set_root_space(space);
        } else {
            self.note(format!("disk_*: {} tells no size or did not answer", root.display()));
        }
        self.filesystems = disks.list;
        self.notes.extend(disks.notes);
    }

    #[cfg(not(target_os = "linux"))]
    fn add_disks(&mut self, root: &Path) {
        let Ok(disks) = sysinfo::Disks::new_with_refreshed_list() else {
            self.note("filesystems: cannot be listed on this operating system");
            return;
        };
        for disk in &disks {
            let (total, available) = (disk.total_space(), disk.available_space());
            let space = Space { total, used: total.saturating_sub(available), available, inodes_used_percent: None };
            if disk.mount_point() == root && total > 0 {
                self.set_root_space(space);
            }
            let listed = FileSystem {
                mount: disk.mount_point().display().to_string(),
                device: disk.name().to_string_lossy().into_owned(),
                kind: disk.file_system().to_string_lossy().into_owned(),
                read_only: disk.is_read_only(),
                ..FileSystem::default()
            };
            self.filesystems.push(if total > 0 { listed.with_space(space) } else { listed });
        }
    }

    fn add_temperatures(&mut self) {
        #[cfg(target_os = "linux")]
        {
            self.temperatures = sensors::read(Path::new("/sys/class"));
        }
        #[cfg(not(target_os = "linux"))]
        if let Ok(components) = sysinfo::Components::new_with_refreshed_list() {
            self.temperatures = components
                .iter()
                .filter_map(|component| {
                    Some(Temperature {
                        sensor: component.label().to_owned(),
                        device: None,
                        celsius: rounded(component.temperature()?.into(), 1)?,
                        critical_celsius: component.critical().and_then(|celsius| rounded(celsius.into(), 1)),
                    })
                })
                .collect();
        }
        if self.temperatures.is_empty() {
            self.note("temperatures: the kernel shows no sensors, as is usual in a virtual machine");
        }
    }

    fn add_network(&mut self, root: &Path) {
        let found = if is_own(root) {
            Networks::new_with_refreshed_list().map(|networks| interfaces(&networks)).map_err(|error| error.to_string())
        } else {
            read_below(root, "proc/1/net/dev")
                .map(|text| parse_net_dev(&text))
                .map_err(|error| format!("{}/proc/1/net/dev: {error}", root.display()))
        };
        match found {
            Ok(mut found) => {
                found.retain(|found| is_interesting(&found.interface));
                found.sort_by(|a, b| a.interface.cmp(&b.interface));
                self.network = found;
            }
            Err(error) => self.note(format!("network: {error}")),
        }
    }
}

/// Whether `root` is this process's own.
fn is_own(root: &Path) -> bool {
    root == Path::new("/")
}

/// Whether this process runs in a container, by what container engines do to one.
fn inside_container() -> bool {
    let has_mark = ["/run/.containerenv", "/run/systemd/container"].iter().any(|mark| Path::new(mark).exists());
    // Docker, Podman and Kubernetes mount this file. Not /.dockerenv: it stays behind in virtual
    // machines made from Docker images.
    let has_mount =
        read_below(Path::new("/"), "proc/self/mountinfo").is_ok_and(|mounts| mounts.contains(" /etc/hostname "));
    has_mark || has_mount
}

/// The first of the files that can be read and is not empty.
fn read_first(root: &Path, files: &[&str]) -> Option<String> {
    files.iter().filter_map(|file| read_below(root, file).ok()).find(|text| !text.trim().is_empty())
}

/// Reads a text file below `root` as a process whose root directory that is would.
///
/// A host's /etc/os-release may be an absolute symbolic link (NixOS has one), which would
/// otherwise lead to the container's file or nowhere.
fn read_below(root: &Path, file: &str) -> std::io::Result<String> {
    #[cfg(target_os = "linux")]
    let bytes = {
        use rustix::{
            fs::{Mode, OFlags, ResolveFlags, open, openat2},
            io::Errno,
        };
        let read_only = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .and_then(|dir| openat2(dir, file, read_only, Mode::empty(), ResolveFlags::IN_ROOT))
            // Kernels before 5.6 have no openat2, and old sandboxes forbid it.
            .or_else(|error| match error {
                Errno::NOSYS | Errno::PERM => open(root.join(file), read_only, Mode::empty()),
                error => Err(error),
            })?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(opened), &mut bytes)?;
        bytes
    };
    #[cfg(not(target_os = "linux"))]
    let bytes = std::fs::read(root.join(file))?;
    // Mount points may be any bytes; one strange name must not hide all the others.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// PRETTY_NAME of an os-release file.
fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.trim_start().strip_prefix("PRETTY_NAME="))?;
    let name = value.trim().trim_matches(['"', '\'']).trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// One file of /proc/pressure: lines like `some avg10=0.12 avg60=0.50 avg300=0.70 total=123`.
fn parse_stall(text: &str) -> Option<Stall> {
    let average = |kind: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let value = line.split_whitespace().find_map(|pair| pair.strip_prefix(name))?;
        rounded(value.parse::<f64>().ok()?.clamp(0.0, 100.0), 2)
    };
    Some(Stall {
        some_avg10: average("some ", "avg10=")?,
        some_avg60: average("some ", "avg60=")?,
        full_avg10: average("full ", "avg10="),
        full_avg60: average("full ", "avg60="),
    })
}

/// The interfaces of this process's own network.
fn interfaces(networks: &Networks) -> Vec<Interface> {
    networks
        .iter()
        .map(|(name, data)| Interface {
            interface: name.to_string_lossy().into_owned(),
            rx_bytes: data.total_received(),
            tx_bytes: data.total_transmitted(),
            rx_errors: data.total_errors_on_received(),
            tx_errors: data.total_errors_on_transmitted(),
        })
        .collect()
}

/// /proc/PID/net/dev: after the name eight numbers about receiving, then eight about sending.
fn parse_net_dev(text: &str) -> Vec<Interface> {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
            Some(Interface {
                interface: name.trim().to_owned(),
                rx_bytes: *numbers.first()?,
                rx_errors: *numbers.get(2)?,
                tx_bytes: *numbers.get(8)?,
                tx_errors: *numbers.get(10)?,
            })
        })
        .collect()
}

/// Whether an interface tells about the machine's network rather than about one guest's cable.
fn is_interesting(name: &str) -> bool {
    /// Loopback, cables to containers and guests, bridges made by container engines (Synology
    /// calls the cables docker…), Proxmox' firewall bridges, and the kernel's placeholders.
    const NOISE: [&str; 18] = [
        "veth", "docker", "podman", "cni", "cali", "flannel", "kube-", "vnet", "fwbr", "fwln", "fwpr", "dummy", "ifb",
        "tunl0", "ip6tnl0", "sit0", "gre", "erspan",
    ];
    let all = |text: &str, wanted: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| wanted(&b));
    let made_by_docker = name.strip_prefix("br-").is_some_and(|id| id.len() == 12 && all(id, u8::is_ascii_hexdigit));
    // Proxmox: tap<guest>i<number>. OpenVPN's tap0 is a network of its own.
    let to_a_guest = name
        .strip_prefix("tap")
        .and_then(|rest| rest.split_once('i'))
        .is_some_and(|(guest, number)| all(guest, u8::is_ascii_digit) && all(number, u8::is_ascii_digit));
    name != "lo" && !made_by_docker && !to_a_guest && !NOISE.iter().any(|noise| name.starts_with(noise))
}

/// Bytes as GiB with two decimals.
fn gib(bytes: u64) -> Option<f64> {
    rounded(bytes as f64 / (1u64 << 30) as f64, 2)
}

/// `part` of `whole` in percent with one decimal; nothing when there is no whole.
pub(super) fn percent(part: u64, whole: u64) -> Option<f64> {
    rounded((part as f64 / whole as f64 * 100.0).clamp(0.0, 100.0), 1)
}

/// Rounds; nothing for what JSON cannot say (NaN, infinite).
pub(super) fn rounded(value: f64, decimals: i32) -> Option<f64> {
    let scale = 10f64.powi(decimals);
    value.is_finite().then(|| (value * scale).round() / scale)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{fs, process::Command, thread};

    use super::*;

    fn names(found: &[Interface]) -> Vec<&str> {
        found.iter().map(|found| found.interface.as_str()).collect()
    }

    fn host_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = host.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        host
    }

    fn measure(root: &Path) -> SystemInfo {
        let sampler = Sampler::start(root);
        thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL);
        sampler.finish()
    }

    fn assert_fits_schema(info: &SystemInfo) {
        let json = serde_json::to_value(info).unwrap();
        for schema in [
            schemars::schema_for!(SystemInfo),
            schemars::generate::SchemaSettings::draft2020_12()
                .for_serialize()
                .into_generator()
                .into_root_schema_for::<SystemInfo>(),
        ] {
            let schema = schema.to_value();
            let errors: Vec<_> =
                jsonschema::validator_for(&schema).unwrap().iter_errors(&json).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?} in {json}");
        }
    }

    /// The number in the first line that starts with `key`.
    fn number_of(text: &str, key: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn pretty_names() {
        assert_eq!(
            pretty_name("NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n").unwrap(),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(pretty_name("PRETTY_NAME='Alpine Linux'").unwrap(), "Alpine Linux");
        assert_eq!(pretty_name("PRETTY_NAME=Void").unwrap(), "Void");
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"\""), None);
    }

    #[test]
    fn stalls() {
        let text = "some avg10=1.50 avg60=20.25 avg300=3.00 total=9\n\
                    full avg10=0.00 avg60=250.00 avg300=0.00 total=1\n";
        assert_eq!(
            parse_stall(text),
            Some(Stall { some_avg10: 1.5, some_avg60: 20.25, full_avg10: Some(0.0), full_avg60: Some(100.0) })
        );
        let some_only = parse_stall("some avg10=1.50 avg60=2.00 avg300=3.00 total=9\n").unwrap();
        assert_eq!(some_only.full_avg10, None);
        assert_eq!(parse_stall(""), None);
        assert_eq!(parse_stall("some avg10=NaN avg60=inf avg300=0 total=0"), None);
    }

    const NET_DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
enp3s0:18446744073709551615 5397 7 0 0 0 0 0 385977 3467 3 0 0 0 0 0
 veth1f: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
broken: 1 2 3
";

    #[test]
    fn interface_counters() {
        let found = parse_net_dev(NET_DEV);
        assert_eq!(names(&found), ["lo", "enp3s0", "veth1f"]);
        assert_eq!(
            found[1],
            Interface {
                interface: "enp3s0".to_owned(),
                rx_bytes: u64::MAX,
                tx_bytes: 385_977,
                rx_errors: 7,
                tx_errors: 3,
            }
        );
    }

    #[test]
    fn interesting_interfaces() {
        for name in [
            "eth0",
            "enp3s0",
            "wlan0",
            "bond0",
            "eth0.100",
            "vlan20",
            "br0",
            "br-lan",
            "vmbr0",
            "wg0",
            "tun0",
            "tap0",
            "tailscale0",
            "virbr0",
            "br-123",
            "tapi",
        ] {
            assert!(is_interesting(name), "{name}");
        }
        for name in [
            "lo",
            "veth12ab",
            "docker0",
            "docker_gwbridge",
            "br-0123456789ab",
            "tap100i0",
            "fwbr100i0",
            "vnet3",
            "cni0",
            "ifb0",
            "dummy0",
            "tunl0",
            "sit0",
        ] {
            assert!(!is_interesting(name), "{name}");
        }
    }

    #[test]
    fn numbers_that_json_cannot_say_are_absent() {
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(1, 3), Some(33.3));
        assert_eq!(percent(3, 2), Some(100.0));
        assert_eq!(rounded(f64::INFINITY, 1), None);
        assert_eq!(gib(3 << 29), Some(1.5));
    }

    /// What the host's files say, not what this machine is.
    #[test]
    fn host_root_is_what_is_described() {
        let host = host_with(&[
            ("etc/hostname", "nas\n"),
            ("etc/static/os-release", "PRETTY_NAME=\"NixOS 25.05\"\n"),
            ("proc/1/net/dev", NET_DEV),
            (
                "proc/1/mountinfo",
                "25 1 259:1 / / rw - ext4 /dev/nvme0n1p1 rw\n\
                 26 25 0:40 / /mnt/tank rw - zfs tank rw\n",
            ),
        ]);
        // Absolute, as NixOS has it: it must lead below the host's root.
        std::os::unix::fs::symlink("/etc/static/os-release", host.path().join("etc/os-release")).unwrap();
        let info = measure(host.path());
        assert_eq!(info.hostname.as_deref(), Some("nas"));
        assert_eq!(info.os.as_deref(), Some("NixOS 25.05"));
        assert_eq!(info.host_root.as_deref(), host.path().to_str());
        assert_eq!(names(&info.network), ["enp3s0"]);
        // Neither is mounted below the temporary directory, so no numbers may be told for them.
        let listed: Vec<_> = info
            .filesystems
            .iter()
            .map(|listed| (listed.mount.as_str(), listed.unreachable, listed.total_bytes))
            .collect();
        assert_eq!(listed, [("/", true, None), ("/mnt/tank", true, None)]);
        assert!(info.notes.iter().any(|note| note.contains("/mnt/tank")), "{:?}", info.notes);
        assert_fits_schema(&info);
    }

    #[test]
    fn empty_and_missing_host_roots_are_explained() {
        let host = host_with(&[]);
        for root in [host.path().to_owned(), host.path().join("missing")] {
            let info = measure(&root);
            let notes = info.notes.join("\n");
            assert_eq!((&info.hostname, &info.os), (&None, &None));
            assert!(info.network.is_empty());
            for word in ["hostname", "mountinfo", "net/dev"] {
                assert!(notes.contains(word), "{word} in {notes}");
            }
            assert_fits_schema(&info);
        }
        let notes = measure(&host.path().join("missing")).notes;
        assert!(notes.iter().any(|note| note.starts_with("HOST_ROOT")), "{notes:?}");
    }

    /// A link that leads nowhere on the host must not be followed into our own files.
    #[test]
    fn links_stay_below_the_host_root() {
        let host = host_with(&[("etc/none", "")]);
        std::os::unix::fs::symlink("/etc/passwd", host.path().join("etc/hostname")).unwrap();
        std::os::unix::fs::symlink("../../../../../etc/passwd", host.path().join("etc/HOSTNAME")).unwrap();
        assert!(read_below(Path::new("/"), "etc/passwd").is_ok());
        assert_eq!(read_first(host.path(), &["etc/hostname", "etc/HOSTNAME"]), None);
    }

    #[test]
    fn a_finish_without_a_pause_tells_no_cpu_percentage() {
        let info = Sampler::start(Path::new("/")).finish();
        assert_eq!(info.cpu_percent, None);
        assert!(info.notes.iter().any(|note| note.starts_with("cpu_percent")));
        assert_fits_schema(&info);
    }

    /// Keeps a CPU busy and looks whether that shows.
    #[test]
    fn cpu_percent_is_of_the_interval() {
        let sampler = Sampler::start(Path::new("/"));
        let until = Instant::now() + 2 * MINIMUM_CPU_UPDATE_INTERVAL;
        while Instant::now() < until {}
        let info = sampler.finish();
        let one_cpu = 100.0 / info.cpu_count.unwrap() as f64;
        // Half, because other programs may want the same CPU.
        assert!(info.cpu_percent.unwrap() > one_cpu / 2.0, "{:?}", info.cpu_percent);
        assert!((400..5000).contains(&info.measured_over_ms), "{}", info.measured_over_ms);
    }

    #[test]
    fn agrees_with_df_meminfo_and_stat() {
        let info = measure(Path::new("/"));
        assert_fits_schema(&info);

        let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
        let total = number_of(&meminfo, "MemTotal:") / 1024.0 / 1024.0;
        assert!((info.memory_total_gb.unwrap() - total).abs() < 0.01);
        assert!(info.memory_used_gb.unwrap() > 0.0);
        // Not nproc, which counts what this process may use.
        let stat = fs::read_to_string("/proc/stat").unwrap();
        let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
        assert_eq!(info.cpu_count, Some(cpus as u64));
        let uptime = number_of(&fs::read_to_string("/proc/uptime").unwrap(), "") / 3600.0;
        assert!((info.uptime_hours.unwrap() - uptime).abs() < 0.02);

        let df = Command::new("df").args(["-B1", "--output=size,used,pcent", "/"]).output().unwrap();
        let df = String::from_utf8(df.stdout).unwrap().replace('%', "");
        let df: Vec<f64> =
            df.lines().nth(1).unwrap().split_whitespace().map(|number| number.parse().unwrap()).collect();
        let gib = f64::from(1 << 30);
        // Other tests write meanwhile; df rounds percentages up.
        assert!((info.disk_total_gb.unwrap() - df[0] / gib).abs() < 0.01);
        assert!((info.disk_used_gb.unwrap() - df[1] / gib).abs() < 0.5);
        assert!((info.disk_percent.unwrap() - df[2]).abs() <= 2.0);
    }
}
