//! The memory that this machine, or the control group that the process is in, has for it.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Memory in bytes; `None` where it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The lowest limit of the control groups that the process is in.
    pub limit: Option<u64>,
    /// All memory of the machine, as far as addresses reach.
    pub total: Option<u64>,
}

impl Machine {
    /// Reads what the kernel says. Must be called before the sandbox is entered.
    pub fn look() -> Machine {
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = limit_files(&groups).into_iter().filter_map(|file| read_to_string(file).ok());
        let limit = limits.filter_map(|text| text.trim().parse().ok()).min();
        let total = read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
        Machine { limit: limit.filter(|limit| total.is_none_or(|total| *limit < total)), total }
    }

    /// Returns how much racerd may allocate if no setting says so, and from what that follows: half of the control
    /// group's limit, else a quarter of the machine's memory. The kernel may hold as much again for the sockets.
    pub fn usual(&self) -> (u64, &'static str) {
        match (self.limit, self.total) {
            (Some(limit), _) => (limit / 2, "half of what the control group may have"),
            (None, Some(total)) => (total / 4, "a quarter of the machine's memory"),
            (None, None) => (u64::MAX, "unlimited: it is not known how much memory there is"),
        }
    }
}

/// Returns the files that may hold a limit for a process in these groups, as `/proc/self/cgroup` lists them
/// (cgroups(7)): that of its own group, and those of the groups around it, in both versions of the interface.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container, the path may be that of the host, while the mounted root is the container's own group.
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

/// Returns the machine's memory, as `/proc/meminfo` says.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let all = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)?;
    Some(all.min(usize::MAX as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_around_count_too() {
        let files = |groups| -> Vec<String> {
            limit_files(groups).into_iter().map(|file| file.to_string_lossy().into_owned()).collect()
        };
        let expected = [
            "/sys/fs/cgroup/system.slice/racerd.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files("0::/system.slice/racerd.service\n"), expected);
        let expected = ["/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        assert_eq!(files("12:cpu,memory:/a\n3:pids:/a\n"), expected);
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(files("nonsense\n\n::\n"), ["/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn what_is_usual() {
        assert_eq!(total("MemTotal:         498876 kB\nMemFree: 1 kB\n"), Some(498_876 << 10));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        let usual = |limit, total| Machine { limit, total }.usual().0;
        assert_eq!(usual(Some(64 << 20), Some(1 << 30)), 32 << 20);
        assert_eq!(usual(None, Some(1 << 30)), 256 << 20);
        assert_eq!(usual(None, None), u64::MAX);
    }
}
