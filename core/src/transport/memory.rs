//! The C library's heap, which libzmq's messages come from.

/// Gives memory that is free in the C library's heap back to the operating system, where that library can.
pub(crate) fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: no preconditions; it changes nothing that anybody uses.
        unsafe { libc::malloc_trim(0) };
    }
}
