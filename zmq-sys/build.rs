//! Builds libzmq 4.3.5 from source with the platform's features switched on, or links the system's libzmq.
//!
//! `zeromq-src` compiles with an empty platform header: every feature that libzmq's own build scripts would have
//! found is off. What they find on the platforms we know is written down here instead; README.md says what each buys.

use std::env;

use zeromq_src::LibLocation;

const SYSTEM_LIBZMQ: &str = "MAJORDOMO_SYSTEM_LIBZMQ";

/// Every Unix we build for.
const UNIX: &[&str] = &[
    // Timers follow the monotonic clock, not the time of day.
    "HAVE_CLOCK_GETTIME",
    // A context that came through fork() is noticed in the child.
    "HAVE_FORK",
    "HAVE_MKDTEMP",
    // Messages between threads are queued in blocks aligned to cache lines (see `cache_line`).
    "HAVE_POSIX_MEMALIGN",
    "ZMQ_HAVE_NOEXCEPT",
    // Interface names in endpoints, such as tcp://eth0:5555.
    "HAVE_IF_NAMETOINDEX",
    "ZMQ_HAVE_IFADDRS",
    // The ZMQ_TCP_KEEPALIVE* options reach the socket.
    "ZMQ_HAVE_SO_KEEPALIVE",
    "ZMQ_HAVE_TCP_KEEPCNT",
    "ZMQ_HAVE_TCP_KEEPINTVL",
];

const LINUX: &[&str] = &[
    // One eventfd per signaler instead of a pair of connected sockets.
    "ZMQ_HAVE_EVENTFD",
    // No descriptor of libzmq's is inherited by a program that the process starts.
    "ZMQ_HAVE_EVENTFD_CLOEXEC",
    "ZMQ_IOTHREAD_POLLER_USE_EPOLL_CLOEXEC",
    "ZMQ_HAVE_SOCK_CLOEXEC",
    "HAVE_ACCEPT4",
    "ZMQ_HAVE_TCP_KEEPIDLE",
    // Who is at the other end of an ipc connection.
    "ZMQ_HAVE_SO_PEERCRED",
    "ZMQ_HAVE_SO_BINDTODEVICE",
    "ZMQ_HAVE_SO_PRIORITY",
    "ZMQ_HAVE_BUSY_POLL",
    // I/O threads can be told apart in a debugger, and pinned.
    "ZMQ_HAVE_PTHREAD_SETNAME_2",
    "ZMQ_HAVE_PTHREAD_SET_AFFINITY",
];

const MACOS: &[&str] = &[
    "ZMQ_HAVE_OSX",
    // Darwin's name for the idle time before the first probe.
    "ZMQ_HAVE_TCP_KEEPALIVE",
    "ZMQ_HAVE_LOCAL_PEERCRED",
    "ZMQ_HAVE_PTHREAD_SETNAME_1",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={SYSTEM_LIBZMQ}");
    if env::var(SYSTEM_LIBZMQ).is_ok_and(|value| !matches!(value.as_str(), "" | "0")) {
        link_system_libzmq();
    } else {
        build_libzmq();
    }
}

fn link_system_libzmq() {
    match pkg_config::Config::new().atleast_version("4.3").probe("libzmq") {
        Ok(libzmq) => {
            for path in &libzmq.include_paths {
                println!("cargo:include={}", path.display());
            }
        }
        Err(error) => fail(&format!("{SYSTEM_LIBZMQ} is set, but {error}")),
    }
}

fn build_libzmq() {
    let os = cargo_says("CARGO_CFG_TARGET_OS");
    let platform: &[&str] = match os.as_str() {
        "linux" => LINUX,
        "macos" => MACOS,
        other => fail(&format!(
            "libzmq's features on {other} are not known here; set {SYSTEM_LIBZMQ}=1 to link an installed one"
        )),
    };

    // zeromq-src takes no defines; the C++ compiler's flags are the way in. The caller's own flags come first.
    let mut flags = env::var("CXXFLAGS").unwrap_or_default();
    for name in UNIX.iter().chain(platform) {
        flags.push_str(&format!(" -D{name}=1"));
    }
    flags.push_str(&format!(" -DZMQ_CACHELINE_SIZE={}", cache_line(&os)));
    // SAFETY: a build script has one thread here; the compilers are started later and inherit these.
    unsafe {
        env::set_var("CXXFLAGS", flags);
        // A debug build of ours is no reason to send messages through an unoptimised libzmq.
        env::set_var("OPT_LEVEL", "2");
    }

    zeromq_src::Build::new()
        // ZMQ_DISCONNECT_MSG, ZMQ_HICCUP_MSG, ZMQ_HELLO_MSG and the ZMQ_RECONNECT_STOP family.
        .enable_draft(true)
        .with_libsodium(Some(libsodium()))
        .build();
}

fn cache_line(os: &str) -> u32 {
    if os == "macos" && cargo_says("CARGO_CFG_TARGET_ARCH") == "aarch64" { 128 } else { 64 }
}

/// Where the build script of libsodium-sys-stable put the library. It reports no directory for one that the system's
/// compiler and linker find by themselves.
fn libsodium() -> LibLocation {
    let usual = |name: &str, directory: &str| env::var(name).unwrap_or_else(|_| directory.into());
    LibLocation::new(usual("DEP_SODIUM_LIB", "/usr/lib"), usual("DEP_SODIUM_INCLUDE", "/usr/include"))
}

fn cargo_says(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

/// Ends the build with one readable line instead of a panic's backtrace.
fn fail(reason: &str) -> ! {
    eprintln!("zmq-sys: {reason}");
    std::process::exit(1)
}
