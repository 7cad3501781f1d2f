//! Temperatures from Linux' sysfs.
//!
//! Responsible for naming each sensor so that it can be told from its twin. sysinfo reads the same
//! files, but takes sensors with the same label for one: of four equal disks it shows one.
//! sysfs is the same inside a container, so there is no HOST_ROOT here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::model::{Temperature, rounded};

/// Reads all sensors below `class` (`/sys/class`): the chips of hwmon, or where there are none the
/// thermal zones, which on boards with both show the same temperatures again.
pub(crate) fn read(class: &Path) -> Vec<Temperature> {
    let chips: Vec<_> = entries(&class.join("hwmon")).iter().flat_map(|chip| read_chip(chip)).collect();
    if chips.is_empty() {
        entries(&class.join("thermal")).iter().filter_map(|zone| read_zone(zone)).collect()
    } else {
        chips
    }
}

/// The sensors of one chip: each has a tempN_input and may have a tempN_label and a tempN_crit.
fn read_chip(chip: &Path) -> Vec<Temperature> {
    let name = text(&chip.join("name")).unwrap_or_else(|| "unknown".to_owned());
    let device = device(chip);
    entries(chip)
        .iter()
        .filter_map(|input| {
            let number = input.file_name()?.to_str()?.strip_suffix("_input")?;
            if !number.starts_with("temp") {
                return None;
            }
            let label = text(&chip.join(format!("{number}_label")));
            Some(Temperature {
                sensor: format!("{name} {}", label.as_deref().unwrap_or(number)),
                device: device.clone(),
                celsius: celsius(input)?,
                // Drivers without a limit say 0 or, as nvme does, 65261.85.
                critical_celsius: celsius(&chip.join(format!("{number}_crit")))
                    .filter(|&limit| limit > 0.0 && limit < 1000.0),
            })
        })
        .collect()
}

/// One thermal zone, such as the only sensor of a Raspberry Pi with an old kernel.
fn read_zone(zone: &Path) -> Option<Temperature> {
    Some(Temperature {
        sensor: text(&zone.join("type"))?,
        device: zone.file_name().and_then(|name| name.to_str()).map(str::to_owned),
        celsius: celsius(&zone.join("temp"))?,
        critical_celsius: None,
    })
}

/// What the chip is in: the disk where it is one (`device/block/sda`), else the bus's name for it.
fn device(chip: &Path) -> Option<String> {
    let device = chip.join("device");
    let named = entries(&device.join("block")).into_iter().next().or_else(|| fs::read_link(device).ok())?;
    Some(named.file_name()?.to_str()?.to_owned())
}

/// A temperature file: thousandths of a degree. Sensors of sleeping devices give an error.
fn celsius(file: &Path) -> Option<f64> {
    let thousandths: i32 = text(file)?.parse().ok()?;
    rounded(f64::from(thousandths) / 1000.0, 1)
}

fn text(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// What is in a directory, in the order people count in: temp2 comes before temp10.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort_by_cached_key(|path| (path.as_os_str().len(), path.clone()));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (file, text) in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
    }

    #[test]
    fn equal_disks_stay_apart() {
        let class = tempfile::tempdir().unwrap();
        write(
            class.path(),
            &[
                ("hwmon/hwmon0/name", "drivetemp\n"),
                ("hwmon/hwmon0/temp1_input", "31000\n"),
                ("hwmon/hwmon0/temp1_crit", "70000\n"),
                ("hwmon/hwmon0/device/block/sda/size", "1"),
                ("hwmon/hwmon1/name", "drivetemp\n"),
                ("hwmon/hwmon1/temp1_input", "44500\n"),
                ("hwmon/hwmon1/device/block/sdb/size", "1"),
            ],
        );
        let found: Vec<_> = read(class.path())
            .into_iter()
            .map(|found| (found.sensor, found.device, found.celsius, found.critical_celsius))
            .collect();
        assert_eq!(
            found,
            [
                ("drivetemp temp1".to_owned(), Some("sda".to_owned()), 31.0, Some(70.0)),
                ("drivetemp temp1".to_owned(), Some("sdb".to_owned()), 44.5, None),
            ]
        );
    }

    #[test]
    fn labels_order_limits_and_what_is_no_temperature() {
        let class = tempfile::tempdir().unwrap();
        write(
            class.path(),
            &[
                ("hwmon/hwmon0/name", "nvme"),
                ("hwmon/hwmon0/temp1_label", "Composite\n"),
                ("hwmon/hwmon0/temp1_input", "-1040"),
                ("hwmon/hwmon0/temp1_crit", "65261850"),
                ("hwmon/hwmon0/temp10_input", "10000"),
                ("hwmon/hwmon0/temp2_input", "2000"),
                ("hwmon/hwmon0/temp3_input", "no number"),
                ("hwmon/hwmon0/in0_input", "5000"),
                ("thermal/thermal_zone0/type", "x86_pkg_temp"),
                ("thermal/thermal_zone0/temp", "50000"),
            ],
        );
        std::os::unix::fs::symlink("../../nvme0", class.path().join("hwmon/hwmon0/device")).unwrap();
        let found = read(class.path());
        let sensors: Vec<_> = found.iter().map(|found| found.sensor.as_str()).collect();
        assert_eq!(sensors, ["nvme Composite", "nvme temp2", "nvme temp10"]);
        assert_eq!(found[0].celsius, -1.0);
        assert_eq!(found[0].critical_celsius, None);
        assert_eq!(found[0].device.as_deref(), Some("nvme0"));
    }

    #[test]
    fn thermal_zones_where_no_chip_has_a_temperature() {
        let class = tempfile::tempdir().unwrap();
        write(
            class.path(),
            &[
                ("hwmon/hwmon0/name", "rpi_volt"),
                ("hwmon/hwmon0/in0_lcrit_alarm", "0"),
                ("thermal/thermal_zone0/type", "cpu-thermal\n"),
                ("thermal/thermal_zone0/temp", "48312\n"),
                ("thermal/cooling_device0/type", "gpio-fan"),
            ],
        );
        assert_eq!(
            read(class.path()),
            [Temperature {
                sensor: "cpu-thermal".to_owned(),
                device: Some("thermal_zone0".to_owned()),
                celsius: 48.3,
                critical_celsius: None,
            }]
        );
        assert!(read(&class.path().join("nothing")).is_empty());
    }
}
