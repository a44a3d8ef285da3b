//! The filters, run as the kernel runs them: what each call gets, those among them that no test could make.

use super::*;

use seccompiler::sock_filter;

/// The identity of this architecture, and that of another, whose calls have other numbers (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [u32; 2] = [0xc000_003e, 0x4000_0003];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [u32; 2] = [0xc000_00b7, 0x4000_0028];
#[cfg(target_arch = "riscv64")]
const ARCHITECTURES: [u32; 2] = [0xc000_00f3, 0x4000_00f3];

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const REFUSED: u32 = ERRNO | libc::EPERM as u32;

/// A call, as the kernel shows it to a filter (`struct seccomp_data`).
struct Call {
    number: u32,
    architecture: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            8 | 12 => 0,
            _ => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                // Little-endian, as all three architectures are.
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
        }
    }

    /// Returns what this filter says of it: classic BPF, as far as the filters use it (linux/filter.h).
    fn under(&self, filter: &[sock_filter]) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = filter[at];
            at += 1;
            let jump = |is_so: bool| usize::from(if is_so { jt } else { jf });
            match code {
                0x20 => accumulator = self.word(k),
                0x54 => accumulator &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(accumulator == k),
                0x25 => at += jump(accumulator > k),
                0x35 => at += jump(accumulator >= k),
                0x06 => return k,
                other => panic!("{other:#x} is no instruction of these filters"),
            }
        }
    }
}

/// Returns what a process with this reach gets of a call: of several filters, the kernel takes the strictest action,
/// and here each refuses with a number of its own.
fn answer(reach: &Reach, number: i64, arguments: &[u64]) -> u32 {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    let call = Call { number: number as u32, architecture: ARCHITECTURES[0], arguments: six };
    let fallback = call.under(&fallback().unwrap());
    if fallback == ALLOW { call.under(&filter(reach).unwrap()) } else { fallback }
}

fn own() -> u64 {
    u64::from(std::process::id())
}

const AF_INET: u64 = libc::AF_INET as u64;
const AF_UNIX: u64 = libc::AF_UNIX as u64;
const STREAM: u64 = libc::SOCK_STREAM as u64;
const DATAGRAM: u64 = libc::SOCK_DGRAM as u64;
const RAW: u64 = libc::SOCK_RAW as u64;
/// A thread, as the C libraries make one.
const THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u64;

/// System calls that an intruder would use. The list of allowed calls has none of them.
#[test]
fn what_a_server_does_not_need_is_refused() {
    for number in [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_seccomp,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_add_key,
        libc::SYS_keyctl,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setresuid,
        libc::SYS_capset,
        libc::SYS_personality,
        libc::SYS_memfd_create,
        libc::SYS_truncate,
        libc::SYS_open_by_handle_at,
        libc::SYS_openat2,
        libc::SYS_mknodat,
        libc::SYS_symlinkat,
        libc::SYS_setxattr,
        libc::SYS_listen,
        libc::SYS_connect,
        libc::SYS_bind,
    ] {
        assert_eq!(answer(&Reach::default(), number, &[]), REFUSED, "{number}");
    }
    // And whatever there is or will be, but for what the lists and the rules for arguments name.
    let by_argument = [
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_prctl,
        libc::SYS_prlimit64,
        libc::SYS_kill,
        libc::SYS_tgkill,
        libc::SYS_ioctl,
        libc::SYS_socket,
    ];
    for number in 0..1024 {
        let is_listed = ALLOWED.contains(&number) || OLDER.contains(&number);
        if !by_argument.contains(&number) {
            let expected = if is_listed { ALLOW } else { REFUSED };
            assert_eq!(answer(&Reach::default(), number, &[]), expected, "{number}");
        }
    }
}

#[test]
fn some_calls_are_allowed_with_some_arguments() {
    let closed = Reach::default();
    let routes = Reach { routes: true, ..Reach::default() };
    let (exec, write) = (libc::PROT_EXEC as u64, (libc::PROT_READ | libc::PROT_WRITE) as u64);
    let (user, net) = (libc::CLONE_NEWUSER as u64, libc::CLONE_NEWNET as u64);
    let other = own() + 1;
    let cases: &[(&Reach, i64, &[u64], bool)] = &[
        (&closed, libc::SYS_clone, &[THREAD], true),
        (&closed, libc::SYS_clone, &[libc::SIGCHLD as u64], false),
        (&closed, libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u64], false),
        (&closed, libc::SYS_clone, &[user], false),
        (&closed, libc::SYS_clone, &[THREAD | user], false),
        (&closed, libc::SYS_clone, &[THREAD | net], false),
        (&closed, libc::SYS_mmap, &[0, 4096, write], true),
        (&closed, libc::SYS_mmap, &[0, 4096, write | exec], false),
        (&closed, libc::SYS_mmap, &[0, 4096, exec], false),
        (&closed, libc::SYS_mprotect, &[0, 4096, write], true),
        (&closed, libc::SYS_mprotect, &[0, 4096, exec], false),
        (&closed, libc::SYS_prctl, &[libc::PR_SET_NAME as u64], true),
        (&closed, libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64], false),
        (&closed, libc::SYS_prlimit64, &[0], true),
        (&closed, libc::SYS_prlimit64, &[own()], true),
        (&closed, libc::SYS_prlimit64, &[other], false),
        (&closed, libc::SYS_kill, &[own()], true),
        (&closed, libc::SYS_kill, &[other], false),
        // To its group, and to everybody.
        (&closed, libc::SYS_kill, &[0], false),
        (&closed, libc::SYS_kill, &[u64::MAX], false),
        (&closed, libc::SYS_tgkill, &[own()], true),
        (&closed, libc::SYS_tgkill, &[other], false),
        (&closed, libc::SYS_ioctl, &[2, 0x5401], true),
        // TIOCSTI: to type into a terminal.
        (&closed, libc::SYS_ioctl, &[2, 0x5412], false),
        (&closed, libc::SYS_socket, &[AF_UNIX, DATAGRAM], true),
        (&closed, libc::SYS_socket, &[AF_INET, STREAM], false),
        (&closed, libc::SYS_socket, &[AF_INET, DATAGRAM], false),
        (&closed, libc::SYS_socket, &[AF_INET, RAW], false),
        (&closed, libc::SYS_socket, &[libc::AF_NETLINK as u64, RAW], false),
        (&closed, libc::SYS_socket, &[libc::AF_PACKET as u64, RAW], false),
        (&closed, libc::SYS_socket, &[libc::AF_VSOCK as u64, STREAM], false),
        (&routes, libc::SYS_socket, &[AF_INET, DATAGRAM | libc::SOCK_CLOEXEC as u64], true),
        (&routes, libc::SYS_socket, &[libc::AF_INET6 as u64, DATAGRAM], true),
        (&routes, libc::SYS_socket, &[AF_INET, STREAM], false),
        (&routes, libc::SYS_socket, &[AF_INET, RAW], false),
        (&routes, libc::SYS_socket, &[libc::AF_NETLINK as u64, DATAGRAM], false),
        (&routes, libc::SYS_connect, &[], true),
        (&routes, libc::SYS_bind, &[], true),
        (&routes, libc::SYS_listen, &[], false),
    ];
    for (reach, number, arguments, is_allowed) in cases {
        let expected = if *is_allowed { ALLOW } else { REFUSED };
        assert_eq!(answer(reach, *number, arguments), expected, "{number} {arguments:x?} {reach:?}");
    }
    // The arguments of clone3 lie in memory: libc is sent to clone.
    assert_eq!(answer(&closed, libc::SYS_clone3, &[]), ERRNO | libc::ENOSYS as u32);
}

/// The same numbers are other calls under another architecture, and under x32.
#[test]
fn no_other_architecture_is_a_way_around() {
    let program = filter(&Reach::default()).unwrap();
    for number in 0..1024 {
        let foreign = Call { number, architecture: ARCHITECTURES[1], arguments: [0; 6] };
        assert_ne!(foreign.under(&program), ALLOW, "{number}");
        let x32 = Call { number: number | 0x4000_0000, architecture: ARCHITECTURES[0], arguments: [0; 6] };
        assert_ne!(x32.under(&program), ALLOW, "{number}");
    }
}
