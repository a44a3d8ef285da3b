//! The other half of the sandbox: a filter of system calls (seccomp(2)). A call that is not in the list fails with
//! EPERM, and nothing is killed: a call that a new version of a library makes costs a feature and not the server.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{Hold, Reach};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that are allowed whatever their arguments are.
const ALLOWED: &[i64] = &[
    // Files, as far as Landlock leaves them.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_umask,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    // The loop and its sockets: they are bound and listen already.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pipe2,
    libc::SYS_socketpair,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_dup,
    libc::SYS_dup3,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads and time.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals, but for sending them to others.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Who and where the process is.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// The older forms of some of these, which libc still calls where an architecture has them.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_create,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_time,
    libc::SYS_getrlimit,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Flags of clone(2) that make namespaces.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Allowed requests of ioctl(2): TCGETS, FIONREAD, FIONBIO and FIOCLEX, by the numbers in asm-generic/ioctls.h, because
/// libc's types for them differ between targets.
const REQUESTS: [u64; 4] = [0x5401, 0x541b, 0x5421, 0x5451];

/// Returns whether a server would be held: by any kernel that filters, and there are few without.
pub fn offered() -> Hold {
    match std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => Hold::Whole,
        _ => Hold::Missing("this kernel filters no system calls (seccomp)".to_string()),
    }
}

/// Takes from this thread, and from those that it makes later, every system call but those that a server needs.
pub fn enter(reach: &Reach) -> Hold {
    let filters = fallback().and_then(|fallback| Ok([fallback, filter(reach)?]));
    let filters = match filters {
        Ok(filters) => filters,
        Err(error) => return Hold::Missing(error.to_string()),
    };
    for filter in filters {
        if let Err(error) = seccompiler::apply_filter(&filter) {
            return Hold::Missing(error.to_string());
        }
    }
    Hold::Whole
}

/// Makes the filter that answers clone3(2) with ENOSYS, so that libc takes clone(2): the arguments of clone3 lie in
/// memory, where no filter sees them. Where two filters differ, the kernel takes the refusal.
fn fallback() -> Result<BpfProgram, BackendError> {
    let rules = Rules::from([(libc::SYS_clone3, Vec::new())]);
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32), architecture()?)?
        .try_into()
}

fn filter(reach: &Reach) -> Result<BpfProgram, BackendError> {
    let own = u64::from(std::process::id());
    let mut rules: Rules = ALLOWED.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    // Threads, but no processes, and none with namespaces of its own.
    let threads = masked(0, (libc::CLONE_THREAD | NAMESPACES) as u64, libc::CLONE_THREAD as u64)?;
    rules.insert(libc::SYS_clone, vec![only(vec![threads])?]);
    // No memory is code, or becomes it.
    rules.insert(libc::SYS_mmap, vec![only(vec![lacks(2, libc::PROT_EXEC as u64)?])?]);
    rules.insert(libc::SYS_mprotect, vec![only(vec![lacks(2, libc::PROT_EXEC as u64)?])?]);
    // The name of a thread.
    rules.insert(libc::SYS_prctl, vec![only(vec![is(0, libc::PR_SET_NAME as u64)?])?]);
    // Limits of this process.
    rules.insert(libc::SYS_prlimit64, vec![only(vec![is(0, 0)?])?, only(vec![is(0, own)?])?]);
    // A signal to itself: a server that ends by a signal says so.
    rules.insert(libc::SYS_kill, vec![only(vec![is(0, own)?])?]);
    rules.insert(libc::SYS_tgkill, vec![only(vec![is(0, own)?])?]);
    // Whether standard error is a terminal, and sockets that do not block.
    let requests = REQUESTS.into_iter().map(|request| only(vec![is(1, request)?]));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    // The service manager's socket, and with a certificate of its own the routes.
    let mut families = vec![only(vec![is(0, libc::AF_UNIX as u64)?])?];
    if reach.routes {
        for family in [libc::AF_INET, libc::AF_INET6] {
            let datagrams = masked(1, 0xff, libc::SOCK_DGRAM as u64)?;
            families.push(only(vec![is(0, family as u64)?, datagrams])?);
        }
        rules.insert(libc::SYS_connect, Vec::new());
        rules.insert(libc::SYS_bind, Vec::new());
    }
    rules.insert(libc::SYS_socket, families);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture()?)?.try_into()
}

fn architecture() -> Result<TargetArch, BackendError> {
    std::env::consts::ARCH.try_into()
}

fn only(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}

/// An argument, counted from 0, that is this value in its lower 32 bits: all of these are ints.
fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

fn lacks(argument: u8, flag: u64) -> Result<SeccompCondition, BackendError> {
    masked(argument, flag, 0)
}

#[cfg(test)]
mod tests;
