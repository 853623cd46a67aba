//! The machine that a report was made on, as the system describes it. Nothing here fails: what is
//! not told stays empty.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use crate::cpu::allowed_cpus;
use crate::report::model::Environment;

/// This machine, now. The file system is that of the data directory, or of the nearest directory
/// above it that exists. What only a run knows (CPUs used, versions of others, settings) is for the
/// caller to fill in.
#[must_use]
pub fn describe(data_directory: Option<&Path>) -> Environment {
    let cpu_information = read("/proc/cpuinfo");
    let cpus = allowed_cpus().unwrap_or_default();
    Environment {
        time: jiff::Timestamp::now().to_string(),
        kernel: kernel(),
        cpu: cpu_name(&cpu_information),
        cpus: cpus.len(),
        governor: governor(cpus.first().copied().unwrap_or_default()),
        virtual_machine: has_hypervisor(&cpu_information),
        memory_bytes: memory_bytes(&read("/proc/meminfo")),
        file_system: data_directory.map(file_system).unwrap_or_default(),
        bench_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Environment::default()
    }
}

/// Whether there is a hypervisor below this system.
#[must_use]
pub fn is_virtual_machine() -> bool {
    has_hypervisor(&read("/proc/cpuinfo"))
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

/// What `uname -srm` prints.
fn kernel() -> String {
    let parts = [
        read("/proc/sys/kernel/ostype"),
        read("/proc/sys/kernel/osrelease"),
        std::env::consts::ARCH.to_owned(),
    ];
    parts.map(|part| part.trim().to_owned()).join(" ")
}

fn governor(cpu: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    read(&path).trim().to_owned()
}

/// The value of the first line `name : value` with one of these names, in their order.
fn field<'a>(text: &'a str, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == *name).then(|| value.trim())
        })
    })
}

fn cpu_name(information: &str) -> String {
    // ARM tells numbers only, some boards a model of the whole.
    let name = field(information, &["model name", "Model", "CPU part"]);
    name.unwrap_or_default().to_owned()
}

fn has_hypervisor(information: &str) -> bool {
    let flags = field(information, &["flags"]).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "hypervisor")
}

fn memory_bytes(information: &str) -> u64 {
    let total = field(information, &["MemTotal"]).unwrap_or_default();
    let kibibytes: Option<u64> = total
        .strip_suffix("kB")
        .and_then(|total| total.trim().parse().ok());
    kibibytes.unwrap_or_default().saturating_mul(1024)
}

fn file_system(directory: &Path) -> String {
    let existing = std::path::absolute(directory)
        .ok()
        .and_then(|path| path.ancestors().find_map(|above| above.canonicalize().ok()));
    existing
        .and_then(|path| mount_of(&read("/proc/self/mountinfo"), &path))
        .unwrap_or_default()
}

/// The mount that a path without symbolic links lies on, as `type on device (options)`.
fn mount_of(mounts: &str, path: &Path) -> Option<String> {
    let of_path = mounts
        .lines()
        .filter_map(parse_mount)
        .filter(|mount| path.starts_with(&mount.point));
    // The deepest, and of several at one place the last: it hides the others.
    let mount = of_path.max_by_key(|mount| mount.point.components().count())?;
    Some(mount.description)
}

struct Mount {
    point: PathBuf,
    description: String,
}

/// A line of mountinfo, see proc_pid_mountinfo(5): six fields, optional ones, a hyphen, three more.
fn parse_mount(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(4);
    let (point, options) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.splitn(3, ' ');
    let (kind, device) = (file_system.next()?, file_system.next()?);
    let mut all: Vec<&str> = options.split(',').collect();
    let of_all_mounts = file_system.next().unwrap_or_default().trim();
    for option in of_all_mounts.split(',').filter(|option| !option.is_empty()) {
        // A mount that is read-only may be one of a file system that is not: the mount decides.
        if !all.contains(&option) && !matches!(option, "rw" | "ro") {
            all.push(option);
        }
    }
    Some(Mount {
        point: PathBuf::from(unescape(point)),
        description: format!("{kind} on {} ({})", unescape(device), all.join(",")),
    })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    // The backslash last: what it becomes must not begin another.
    for (escape, character) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        plain = plain.replace(escape, character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resuid=65534
36 27 259:1 / /var/lib rw,noatime shared:7 master:1 - xfs /dev/nvme0n1p1 rw,attr2,inode64
37 36 259:2 / /var/lib rw,noatime shared:8 - btrfs /dev/nvme1n1 rw,ssd
38 27 0:30 / /mnt/two\\040words ro - tmpfs my\\134tmp rw,size=4k
39 27 0:31 / /odd rw -
40 27";

    #[test]
    fn a_path_lies_on_its_deepest_and_latest_mount() {
        let mount = |path: &str| mount_of(MOUNTS, Path::new(path)).unwrap();
        let root = "ext4 on /dev/vda (rw,relatime,discard,resuid=65534)";
        assert_eq!(mount("/"), root);
        assert_eq!(mount("/var/library"), root);
        assert_eq!(mount("/odd/data"), root);
        let hiding = "btrfs on /dev/nvme1n1 (rw,noatime,ssd)";
        assert_eq!(mount("/var/lib"), hiding);
        assert_eq!(mount("/var/lib/millrace/data"), hiding);
        assert_eq!(mount("/mnt/two words/x"), "tmpfs on my\\tmp (ro,size=4k)");
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn what_a_cpu_tells_is_found() {
        let virtual_one = "processor\t: 0\nmodel name\t: Example CPU @ 3.0GHz: fast\nflags\t\t: fpu hypervisor sse\n";
        assert_eq!(cpu_name(virtual_one), "Example CPU @ 3.0GHz: fast");
        assert!(has_hypervisor(virtual_one));
        assert!(!has_hypervisor("flags\t\t: fpu hypervisors\n"));
        assert_eq!(
            cpu_name("Features : fp\nCPU part\t: 0xd0c\nModel : Board 5\n"),
            "Board 5"
        );
        assert_eq!(cpu_name(""), "");
    }

    #[test]
    fn memory_is_told_in_kibibytes() {
        let memory = "MemTotal:       16303432 kB\nMemFree:        1 kB\n";
        assert_eq!(memory_bytes(memory), 16_303_432 * 1024);
        assert_eq!(memory_bytes("MemTotal: many\n"), 0);
    }

    #[test]
    fn this_machine_has_a_kernel_a_cpu_and_a_file_system() {
        let missing = std::env::current_dir().unwrap().join("not/there/yet");
        let here = describe(Some(&missing));
        assert!(here.kernel.starts_with("Linux ") && here.kernel.split(' ').count() == 3);
        assert!(here.cpus >= 1 && !here.cpu.is_empty());
        assert!(here.memory_bytes > 1 << 20);
        assert!(here.file_system.contains(" on "), "{}", here.file_system);
        assert!(here.time.parse::<jiff::Timestamp>().is_ok());
        assert!(!here.bench_version.is_empty());
        assert_eq!(describe(None).file_system, "");
    }
}
