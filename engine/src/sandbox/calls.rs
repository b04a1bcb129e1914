//! The system calls that a confined process may make: memory, threads, clocks, and traffic on descriptors that it has.
//!
//! Everything else fails with `EPERM` instead of killing, so that a libc which tries something optional goes on. What is
//! not on the list: opening or naming files, making sockets or connecting them, starting programs, signalling others.

use std::collections::BTreeMap;

use libc::{
    SYS_accept4, SYS_brk, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_clone3, SYS_close,
    SYS_epoll_ctl, SYS_epoll_pwait, SYS_exit, SYS_exit_group, SYS_fcntl, SYS_fstat, SYS_futex, SYS_getpeername,
    SYS_getpid, SYS_getrandom, SYS_getrusage, SYS_getsockname, SYS_getsockopt, SYS_gettid, SYS_gettimeofday, SYS_ioctl,
    SYS_lseek, SYS_madvise, SYS_membarrier, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_ppoll,
    SYS_prctl, SYS_pread64, SYS_prlimit64, SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_restart_syscall,
    SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_getaffinity, SYS_sched_yield,
    SYS_sendmsg, SYS_sendto, SYS_set_robust_list, SYS_setsockopt, SYS_shutdown, SYS_sigaltstack, SYS_sysinfo,
    SYS_tgkill, SYS_write, SYS_writev,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The ioctl that switches blocking, alike on these processors; libc gives it another type with each C library.
const FIONBIO: u64 = 0x5421;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

const FREE: &[i64] = &[
    SYS_accept4,
    SYS_brk,
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_clone3, // the other filter answers it
    SYS_close,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_exit,
    SYS_exit_group,
    SYS_fcntl,
    SYS_fstat,
    SYS_futex,
    SYS_getpeername,
    SYS_getpid,
    SYS_getrandom,
    SYS_getrusage,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_gettid,
    SYS_gettimeofday,
    SYS_lseek,
    SYS_madvise,
    SYS_membarrier,
    SYS_mremap,
    SYS_munmap,
    SYS_nanosleep,
    SYS_ppoll,
    SYS_pread64,
    SYS_read,
    SYS_readv,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_sendmsg,
    SYS_sendto,
    SYS_set_robust_list,
    SYS_setsockopt,
    SYS_shutdown,
    SYS_sigaltstack,
    SYS_sysinfo,
    SYS_write,
    SYS_writev,
];

#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Keeps this thread, and those that it will start, to the list.
pub(super) fn restrict() -> Result<(), seccompiler::Error> {
    // The flags of clone3 lie in memory that a filter cannot read; without it libc falls back to clone. This filter goes
    // first, for after the other one no filter can be added.
    let clone3 = BTreeMap::from([(SYS_clone3, Vec::new())]);
    install(clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?;
    install(allowed(own_pid())?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)
}

fn own_pid() -> u64 {
    u64::from(std::process::id())
}

fn install(rules: Rules, otherwise: SeccompAction, listed: SeccompAction) -> Result<(), seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let program: BpfProgram = SeccompFilter::new(rules, otherwise, listed, arch)?.try_into()?;
    seccompiler::apply_filter(&program)
}

fn allowed(pid: u64) -> Result<Rules, BackendError> {
    let mut rules: Rules = FREE.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let executable = libc::PROT_EXEC as u64;
    let threads = libc::CLONE_THREAD as u64;
    let limited = [
        (SYS_mmap, 2, SeccompCmpOp::MaskedEq(executable), 0),
        (SYS_mprotect, 2, SeccompCmpOp::MaskedEq(executable), 0),
        (SYS_clone, 0, SeccompCmpOp::MaskedEq(threads), threads),
        (SYS_ioctl, 1, SeccompCmpOp::Eq, FIONBIO),
        (SYS_prctl, 0, SeccompCmpOp::Eq, libc::PR_SET_NAME as u64),
        (SYS_prctl, 0, SeccompCmpOp::Eq, libc::PR_SET_VMA as u64),
        (SYS_prlimit64, 2, SeccompCmpOp::Eq, 0), // reading a limit, never setting one
        (SYS_tgkill, 0, SeccompCmpOp::Eq, pid),  // abort() signals itself
    ];
    for (call, argument, operator, value) in limited {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?;
        rules.entry(call).or_default().push(SeccompRule::new(vec![condition])?);
    }
    Ok(rules)
}
