//! The C functions of messages and of errors, in any order with any arguments, beside a plain model of what messages hold.
#![no_main]

use std::collections::{HashMap, VecDeque};
use std::ffi::{c_int, c_void};
use std::ptr::{self, null_mut};

use libfuzzer_sys::fuzz_target;
use majordomo_c::*;
use majordomo_fuzz::arguments::{Handles, memory, owned, pointer, read, small, string, text};
use majordomo_fuzz::input::Input;

#[derive(Default)]
struct World {
    handles: Handles,
    /// The frames of each live message.
    model: HashMap<usize, VecDeque<Vec<u8>>>,
    /// A handle of another type.
    other: usize,
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    // SAFETY: strings and NULL, as all the following calls pass them; see `arguments`.
    let mut broker = unsafe { mdbrk_new(c"tcp://127.0.0.1:0".as_ptr(), 0) };
    let mut world = World { other: broker.addr(), ..World::default() };
    while !input.is_over() {
        // SAFETY: every pointer is NULL or good for what the function says of it; handles may be anything.
        unsafe {
            world.call(&mut input);
            world.check();
        }
    }
    world.handles.destroy(mdmsg_destroy);
    // SAFETY: the place of a live handle.
    unsafe { mdbrk_destroy(&mut broker) };
    assert_eq!(md_handles(), 0);
});

/// What a function may put into a place, and where it looks first.
const NOTHING: *const c_void = ptr::dangling();

impl World {
    fn any(&self, input: &mut Input<'_>) -> *mut mdmsg_t {
        self.handles.any(input, self.other)
    }

    fn model(&mut self, message: *mut mdmsg_t) -> Option<&mut VecDeque<Vec<u8>>> {
        self.model.get_mut(&message.addr())
    }

    fn add(&mut self, message: *mut mdmsg_t, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.handles.add(message);
        if !message.is_null() {
            self.model.insert(message.addr(), frames.into_iter().collect());
        }
    }

    unsafe fn call(&mut self, input: &mut Input<'_>) {
        match input.u8() % 32 {
            0 => {
                let message = mdmsg_new();
                assert!(!message.is_null());
                self.add(message, []);
            }
            1 => {
                let (data, size, bytes) = memory(input);
                // SAFETY: memory of that size, or NULL, or a size that no memory has.
                let message = unsafe { mdmsg_new_mem(data, size) };
                assert_eq!(message.is_null(), size != bytes.len());
                self.add(message, [bytes.to_vec()]);
            }
            2 => {
                let other = self.other;
                // SAFETY: a place or NULL.
                self.handles.with_place(input, other, |place| unsafe { mdmsg_destroy(place) });
            }
            3 => {
                let message = self.any(input);
                let copy = mdmsg_dup(message);
                let frames = self.model(message).cloned().filter(|_| !copy.is_null());
                self.add(copy, frames.unwrap_or_default());
            }
            4..=7 => unsafe { self.grow(input) },
            8..=10 => unsafe { self.join(input) },
            11 => {
                let message = self.any(input);
                let popped = mdmsg_pop(message);
                let frame = self.model(message).and_then(VecDeque::pop_front);
                assert_eq!(popped.is_null(), frame.is_none());
                self.add(popped, frame);
            }
            12 => {
                let message = self.any(input);
                let popped = unsafe { owned(mdmsg_popstr(message)) };
                let frame = self.model(message).and_then(VecDeque::pop_front);
                assert_eq!(popped, frame.as_deref().map(until_nul));
            }
            13 => {
                let message = self.any(input);
                let unwrapped = mdmsg_unwrap(message);
                let frame = self.model(message).and_then(|frames| {
                    let first = frames.pop_front();
                    if first.is_some() && frames.front().is_some_and(Vec::is_empty) {
                        frames.pop_front();
                    }
                    first
                });
                assert_eq!(unwrapped.is_null(), frame.is_none());
                self.add(unwrapped, frame);
            }
            14..=17 => unsafe { self.look(input) },
            18 => {
                let (message, other) = (self.any(input), self.any(input));
                let equal = self.model.get(&message.addr()).zip(self.model.get(&other.addr()));
                assert_eq!(mdmsg_eq(message, other), equal.map_or(-1, |(a, b)| c_int::from(a == b)));
            }
            19 => {
                let (message, index, name) = (self.any(input), input.below(4), text(input));
                let result = unsafe { mdmsg_streq(message, index, pointer(&name)) };
                let frame = self.model(message).and_then(|frames| frames.get(index).cloned());
                let equal = frame.zip(name).map_or(-1, |(frame, name)| c_int::from(frame == name.to_bytes()));
                assert_eq!(result, equal);
            }
            20..=25 => unsafe { self.property(input) },
            26 => mdmsg_dump(self.any(input)),
            27 => mdmsg_print(self.any(input)),
            _ => unsafe { ask(input) },
        }
    }

    /// Functions that add a frame.
    unsafe fn grow(&mut self, input: &mut Input<'_>) {
        let message = self.any(input);
        let (front, as_text) = (input.flag(), input.flag());
        let (result, frame) = if as_text {
            let frame = text(input);
            // SAFETY: a string or NULL.
            let add = if front { mdmsg_pushstr } else { mdmsg_addstr };
            (unsafe { add(message, pointer(&frame)) }, frame.map(|frame| frame.to_bytes().to_vec()))
        } else {
            let (data, size, bytes) = memory(input);
            // SAFETY: memory of that size, or NULL, or a size that no memory has.
            let add = if front { mdmsg_pushmem } else { mdmsg_addmem };
            (unsafe { add(message, data, size) }, (size == bytes.len()).then(|| bytes.to_vec()))
        };
        let expected = self.model(message).zip(frame);
        assert_eq!(result, if expected.is_some() { 0 } else { -1 });
        match expected {
            Some((frames, frame)) if front => frames.push_front(frame),
            Some((frames, frame)) => frames.push_back(frame),
            None => assert_ne!(md_errno(), 0),
        }
    }

    /// Functions that take another message.
    unsafe fn join(&mut self, input: &mut Input<'_>) {
        let (message, which, other) = (self.any(input), input.u8() % 3, self.other);
        let mut taken = 0;
        let result = self.handles.with_place(input, other, |place: *mut *mut mdmsg_t| {
            // SAFETY: a place or NULL.
            unsafe {
                taken = if place.is_null() { 0 } else { (*place).addr() };
                let join = [mdmsg_append, mdmsg_prepend, mdmsg_wrap][usize::from(which)];
                join(message, place)
            }
        });
        let is_live = |handle: &usize| self.model.contains_key(handle);
        let possible = is_live(&taken) && is_live(&message.addr()) && taken != message.addr();
        assert_eq!(result, if possible { 0 } else { -1 });
        if possible && let Some(frames) = self.model.remove(&taken) {
            let own = self.model.entry(message.addr()).or_default();
            match which {
                0 => own.extend(frames),
                _ => {
                    let envelope = (which == 2).then(Vec::new);
                    let rest = std::mem::replace(own, frames);
                    own.extend(envelope.into_iter().chain(rest));
                }
            }
        }
    }

    /// Functions that look at frames.
    unsafe fn look(&mut self, input: &mut Input<'_>) {
        let (message, index) = (self.any(input), if input.u8() == 255 { usize::MAX } else { input.below(4) });
        let frames = self.model(message).cloned();
        let frame = frames.as_ref().and_then(|frames| frames.get(index));
        let (mut data, mut size) = (NOTHING, 7);
        // SAFETY: places or NULL; what comes back is read to its end.
        unsafe {
            match input.u8() % 5 {
                0 => assert_eq!(mdmsg_frame(message, index, null_mut(), &mut size), -1),
                1 => assert_eq!(mdmsg_frame(message, index, &mut data, null_mut()), -1),
                2 => {
                    let result = mdmsg_frame(message, index, &mut data, &mut size);
                    assert_eq!(result == 0, frame.is_some());
                    if result == 0 {
                        assert_eq!(Some(&read(data, size)), frame);
                    }
                }
                3 => assert_eq!(owned(mdmsg_strframe(message, index)), frame.map(|frame| until_nul(frame))),
                _ => {
                    let mut found = Vec::new();
                    let mut at = mdmsg_first(message, &mut size);
                    while !at.is_null() {
                        found.push(read(at, size));
                        assert!(mdmsg_next(message, null_mut()).is_null());
                        at = mdmsg_next(message, &mut size);
                    }
                    assert!(mdmsg_first(message, null_mut()).is_null());
                    assert_eq!(found, Vec::from(frames.unwrap_or_default()));
                }
            }
        }
    }

    unsafe fn property(&mut self, input: &mut Input<'_>) {
        let (message, name) = (self.any(input), text(input));
        let (mut data, mut size, mut place) = (NOTHING, 7, c"untouched".as_ptr());
        // SAFETY: strings, memory and places, or NULL; what comes back is read to its end.
        unsafe {
            match input.u8() % 6 {
                0 | 1 => {
                    let (from, length, bytes) = memory(input);
                    if mdmsg_set_property(message, pointer(&name), from, length) == 0 {
                        assert_eq!(mdmsg_property(message, pointer(&name), &mut data, &mut size), 1);
                        assert_eq!(read(data, size), bytes);
                    }
                }
                2 => {
                    let found = mdmsg_property(message, pointer(&name), &mut data, &mut size);
                    assert!(found == 1 || found == -1 || (data.is_null() && size == 0));
                    read(if found == 1 { data } else { ptr::null() }, size);
                }
                3 => assert_eq!(mdmsg_property(message, pointer(&name), null_mut(), &mut size), -1),
                _ => {
                    let count = mdmsg_properties(message);
                    for index in 0..count {
                        assert_eq!(mdmsg_property_at(message, index, &mut place, &mut data, &mut size), 0);
                        string(place).expect("a name");
                        read(data, size);
                    }
                    assert_eq!(mdmsg_property_at(message, count, &mut place, &mut data, &mut size), -1);
                    assert_eq!(mdmsg_property_at(message, 0, null_mut(), &mut data, &mut size), -1);
                }
            }
        }
    }

    /// Every message is what the model says.
    unsafe fn check(&mut self) {
        self.model.retain(|handle, _| self.handles.live.contains(handle));
        for (handle, frames) in &self.model {
            let message: *mut mdmsg_t = ptr::without_provenance_mut(*handle);
            assert_eq!(mdmsg_size(message), frames.len());
            assert_eq!(mdmsg_content_size(message), frames.iter().map(Vec::len).sum::<usize>());
        }
        assert_eq!(md_handles(), self.handles.live.len() + 1);
    }
}

fn until_nul(frame: &[u8]) -> Vec<u8> {
    frame.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// What may be asked of the library itself.
unsafe fn ask(input: &mut Input<'_>) {
    let number = if input.flag() { c_int::from(input.u8()) } else { small(input) };
    let name = text(input);
    // SAFETY: the library's strings, read to their ends; a string or NULL.
    unsafe {
        for text in [
            md_errtext(),
            md_service_text(),
            md_strerror(number),
            md_kind(number),
            md_code(number),
            md_version(),
            md_libzmq_version(),
        ] {
            String::from_utf8(string(text).expect("never NULL")).expect("UTF-8");
        }
        let known = name.as_ref().is_some_and(|name| matches!(name.to_bytes(), b"curve" | b"disconnect-notice"));
        assert_eq!(md_libzmq_has(pointer(&name)) >= 0, known);
    }
    assert_eq!((md_service_code(), md_service_retryable()), (0, 0));
    assert!(md_retryable(number) == 0 || (1..17).contains(&number));
}
