//! Builds libzmq 4.3.5 from source with the platform's features switched on and the changes of `patches/`, or links the system's
//! libzmq.
//!
//! The sources come from the crate `zeromq-src`. What its own build makes of them has an empty platform header, every feature that libzmq's
//! build scripts would have found off, and takes no patches. README.md says what each macro and each patch buys.

use std::env;
use std::fs;
use std::io;
use std::panic::Location;
use std::path::{Path, PathBuf};

use diffy::patch_set::{ParseOptions, PatchSet};

const SYSTEM_LIBZMQ: &str = "MAJORDOMO_SYSTEM_LIBZMQ";
const PATCHES: &str = "patches";

/// Every Unix we build for.
const UNIX: &[&str] = &[
    "ZMQ_STATIC",
    // ZMQ_DISCONNECT_MSG, ZMQ_HICCUP_MSG, ZMQ_HELLO_MSG and the ZMQ_RECONNECT_STOP family.
    "ZMQ_BUILD_DRAFT_API",
    "ZMQ_USE_CV_IMPL_STL11",
    "ZMQ_POLL_BASED_ON_POLL",
    "ZMQ_HAVE_UIO",
    "ZMQ_HAVE_IPC",
    "ZMQ_HAVE_STRUCT_SOCKADDR_UN",
    "ZMQ_HAVE_WS",
    "ZMQ_USE_BUILTIN_SHA1",
    "ZMQ_HAVE_CURVE",
    "ZMQ_USE_LIBSODIUM",
    "HAVE_STRNLEN",
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
    "ZMQ_HAVE_LINUX",
    "ZMQ_IOTHREAD_POLLER_USE_EPOLL",
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
    "ZMQ_IOTHREAD_POLLER_USE_KQUEUE",
    // Darwin's name for the idle time before the first probe.
    "ZMQ_HAVE_TCP_KEEPALIVE",
    "ZMQ_HAVE_LOCAL_PEERCRED",
    "ZMQ_HAVE_PTHREAD_SETNAME_1",
];

/// A C library that has strlcpy says so to libzmq, which brings its own otherwise.
const STRLCPY: &str = "
#include <string.h>
#ifndef __GLIBC__
#define ZMQ_HAVE_STRLCPY 1
#elif __GLIBC_PREREQ (2, 38)
#define ZMQ_HAVE_STRLCPY 1
#endif
";

/// Sources that need GnuTLS.
const LEFT_OUT: &[&str] = &["wss_address.cpp", "wss_engine.cpp"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={PATCHES}");
    println!("cargo:rerun-if-env-changed={SYSTEM_LIBZMQ}");
    if env::var(SYSTEM_LIBZMQ).is_ok_and(|value| !matches!(value.as_str(), "" | "0")) {
        link_system_libzmq();
    } else if let Err(error) = build_libzmq() {
        fail(&format!("libzmq's sources cannot be prepared: {error}"));
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

fn build_libzmq() -> io::Result<()> {
    let root = PathBuf::from(cargo_says("OUT_DIR")).join("libzmq");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for folder in ["include", "src", "external/sha1"] {
        copy(&sources().join(folder), &root.join(folder))?;
    }
    patch(&root)?;
    fs::write(root.join("src/platform.hpp"), platform())?;

    let usual = |name: &str, directory: &str| env::var(name).unwrap_or_else(|_| directory.into());
    // The build script of libsodium-sys-stable reports no directory for a library that the system's compiler and linker find
    // by themselves.
    println!("cargo:rustc-link-search={}", usual("DEP_SODIUM_LIB", "/usr/lib"));
    println!("cargo:rustc-link-lib=static=sodium");
    println!("cargo:include={}", root.join("include").display());
    cc::Build::new()
        .cpp(true)
        .std("c++11")
        .warnings(false)
        // A debug build of ours is no reason to send messages through an unoptimised libzmq.
        .opt_level(2)
        // What another library could put its own in place of is not inlined.
        .flag("-fvisibility=hidden")
        .include(root.join("include"))
        .include(root.join("external/sha1"))
        .include(usual("DEP_SODIUM_INCLUDE", "/usr/include"))
        .file(root.join("external/sha1/sha1.c"))
        .file(one_source(&root.join("src"))?)
        .compile("zmq");
    Ok(())
}

/// A source that includes all the others. A message passes through small functions of many files: compiled together they
/// are inlined, and compiled in a third of the time.
fn one_source(folder: &Path) -> io::Result<PathBuf> {
    let includes: String = files(folder)?
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .filter(|name| name.ends_with(".cpp") && !LEFT_OUT.contains(name))
        .map(|name| format!("#include \"{name}\"\n"))
        .collect();
    let one = folder.join("libzmq.cc");
    fs::write(&one, includes)?;
    Ok(one)
}

/// Where `zeromq-src` has libzmq. It does not say; a function of ours that its source calls learns what called it.
fn sources() -> PathBuf {
    struct Caller;
    #[expect(clippy::from_over_into, reason = "`From` would stand in between as the caller")]
    impl Into<PathBuf> for Caller {
        #[track_caller]
        fn into(self) -> PathBuf {
            Location::caller().file().into()
        }
    }
    let source = zeromq_src::LibLocation::new(Caller, "").lib_dir().to_owned();
    match source.ancestors().nth(2).map(|root| root.join("vendor")) {
        Some(vendor) if vendor.join("src/zmq.cpp").is_file() => vendor,
        _ => fail(&format!("zeromq-src, compiled from {}, has no libzmq beside it", source.display())),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for path in files(from)? {
        fs::write(to.join(path.file_name().unwrap_or_default()), fs::read(&path)?)?;
    }
    Ok(())
}

/// The files of a folder, always in the same order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<_> = entries.into_iter().filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

/// Changes the sources under `root` as the patches say, in the order of their names.
fn patch(root: &Path) -> io::Result<()> {
    for path in files(Path::new(PATCHES))? {
        let text = fs::read_to_string(&path)?;
        let stale = |reason: &dyn std::fmt::Display| -> ! {
            fail(&format!("{} does not fit libzmq's sources, make it anew: {reason}", path.display()))
        };
        for file in PatchSet::parse(&text, ParseOptions::gitdiff()) {
            let file = file.unwrap_or_else(|error| stale(&error));
            let Some(patch) = file.patch().as_text() else { stale(&"it is not text") };
            let name = patch.modified().and_then(|name| name.strip_prefix("b/"));
            let changed = root.join(name.unwrap_or_else(|| stale(&"a part of it names no file under b/")));
            let before = fs::read_to_string(&changed)?;
            let after = diffy::apply(&before, patch).unwrap_or_else(|error| stale(&error));
            fs::write(&changed, after)?;
        }
    }
    Ok(())
}

/// The header that libzmq's own build scripts would write.
fn platform() -> String {
    let os = cargo_says("CARGO_CFG_TARGET_OS");
    let names: &[&str] = match os.as_str() {
        "linux" => LINUX,
        "macos" => MACOS,
        other => fail(&format!(
            "libzmq's features on {other} are not known here; set {SYSTEM_LIBZMQ}=1 to link an installed one"
        )),
    };
    let mut text: String = UNIX.iter().chain(names).map(|name| format!("#define {name} 1\n")).collect();
    text.push_str(&format!("#define ZMQ_CACHELINE_SIZE {}\n", cache_line(&os)));
    text + STRLCPY
}

fn cache_line(os: &str) -> u32 {
    if os == "macos" && cargo_says("CARGO_CFG_TARGET_ARCH") == "aarch64" { 128 } else { 64 }
}

fn cargo_says(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

/// Ends the build with one readable line instead of a panic's backtrace.
fn fail(reason: &str) -> ! {
    eprintln!("zmq-sys: {reason}");
    std::process::exit(1)
}
