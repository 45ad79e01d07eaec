//! Bodies: from Python's bytes-like objects and strings to frames of the core, and back.

use bytes::Bytes;
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyMemoryView, PySlice, PyString, PyTuple};

use crate::error::raise;

/// From this size on a frame shares the memory of the Python object; below, a copy is cheaper than the reference.
const SHARED_FROM: usize = 4096;

/// The body of a request or a reply: an immutable sequence of byte frames.
///
/// Indexing and iteration give ``bytes``, slicing gives a Message. It compares equal to a Message, tuple or list of
/// the same frames, can be hashed and pickled, and is accepted wherever a body is asked for.
///
/// ``Message(body)`` takes one bytes-like object, one ``str`` (sent as UTF-8), or a list or tuple of them;
/// ``Message()`` has no frames. ``properties``, a mapping of names to bytes or str, travel beside the frames (MDPX only);
/// comparing and hashing look at the frames alone.
///
/// >>> import majordomo
/// >>> majordomo.Message(["hello", b"world"])[1]
/// b'world'
#[pyclass(frozen, module = "majordomo")]
pub(crate) struct Message {
    frames: majordomo::Message,
    /// The frames as Python sees them, made when first looked at: a body that is only passed on is never copied.
    tuple: PyOnceLock<Py<PyTuple>>,
}

impl From<majordomo::Message> for Message {
    fn from(frames: majordomo::Message) -> Self {
        Message { frames, tuple: PyOnceLock::new() }
    }
}

impl Message {
    fn tuple<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let tuple = self.tuple.get_or_try_init(py, || {
            let frames = self.frames.iter().map(|frame| bytes_object(py, frame)).collect::<PyResult<Vec<_>>>()?;
            PyTuple::new(py, frames).map(Bound::unbind)
        })?;
        Ok(tuple.bind(py))
    }
}

#[pymethods]
impl Message {
    #[new]
    #[pyo3(signature = (body=None, /, *, properties=None))]
    fn new(body: Option<&Bound<'_, PyAny>>, properties: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let body = body.map(body_of).transpose()?.unwrap_or_default();
        Ok(Message::from(with_properties(body, properties)?))
    }

    /// What travels beside the frames (MDPX only): a dict of names to bytes.
    #[getter]
    fn properties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        properties_dict(py, self.frames.properties())
    }

    fn __len__(&self) -> usize {
        self.frames.len()
    }

    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        if let Ok(slice) = index.cast::<PySlice>() {
            let range = slice.indices(isize::try_from(self.frames.len())?)?;
            let mut at = range.start;
            let mut picked = Vec::with_capacity(range.slicelength);
            for _ in 0..range.slicelength {
                picked.extend(usize::try_from(at).ok().and_then(|at| self.frames.frames().get(at)).cloned());
                at = at.wrapping_add(range.step);
            }
            return Ok(Bound::new(py, Message::from(majordomo::Message::from_frames(picked)))?.into_any());
        }
        self.tuple(py)?.as_any().get_item(index)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.tuple(py)?.as_any().try_iter()?.into_any())
    }

    fn __reversed__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.tuple(py)?.as_any().get_item(PySlice::new(py, isize::MAX, isize::MIN, -1))?.call_method0("__iter__")
    }

    fn __contains__(&self, frame: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.tuple(frame.py())?.as_any().contains(frame)
    }

    /// Return the index of the first frame equal to value; raise ValueError if there is none.
    #[pyo3(signature = (value, start=0, stop=None))]
    fn index(&self, value: &Bound<'_, PyAny>, start: isize, stop: Option<isize>) -> PyResult<usize> {
        let stop = stop.unwrap_or(isize::MAX);
        self.tuple(value.py())?.call_method1("index", (value, start, stop))?.extract()
    }

    /// Return how many frames are equal to value.
    fn count(&self, value: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.tuple(value.py())?.call_method1("count", (value,))?.extract()
    }

    fn __richcmp__<'py>(&self, other: &Bound<'py, PyAny>, compare: CompareOp) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let equal = if let Ok(other) = other.cast::<Message>() {
            self.frames.frames() == other.get().frames.frames()
        } else if other.is_instance_of::<PyTuple>() {
            self.tuple(py)?.as_any().eq(other)?
        } else if let Ok(list) = other.cast::<PyList>() {
            self.tuple(py)?.as_any().eq(list.to_tuple())?
        } else {
            return Ok(py.NotImplemented().into_bound(py));
        };
        match compare {
            CompareOp::Eq => equal.into_pyobject(py).map(|truth| truth.to_owned().into_any()).map_err(Into::into),
            CompareOp::Ne => (!equal).into_pyobject(py).map(|truth| truth.to_owned().into_any()).map_err(Into::into),
            _ => Ok(py.NotImplemented().into_bound(py)),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.tuple(py)?.hash()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        // Through the list, whose form is the same whatever the number of frames.
        Ok(format!("Message({})", self.tuple(py)?.to_list().repr()?.to_cow()?))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((Bound<'py, PyTuple>,), Bound<'py, PyDict>)> {
        let arguments = PyDict::new(py);
        arguments.set_item("properties", self.properties(py)?)?;
        Ok(((self.tuple(py)?.clone(),), arguments))
    }
}

/// The body that a Python object stands for: a Message, one frame, or a list or tuple of frames.
pub(crate) fn body_of(object: &Bound<'_, PyAny>) -> PyResult<majordomo::Message> {
    if let Ok(message) = object.cast::<Message>() {
        return Ok(message.get().frames.clone());
    }
    if let Ok(list) = object.cast::<PyList>() {
        return list.iter().map(|frame| frame_of(&frame)).collect();
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        return tuple.iter().map(|frame| frame_of(&frame)).collect();
    }
    frame_of(object).map(majordomo::Message::from)
}

/// As [`body_of`], with these properties in the place of the body's own unless they are `None`.
pub(crate) fn message_of(
    object: &Bound<'_, PyAny>,
    properties: Option<&Bound<'_, PyAny>>,
) -> PyResult<majordomo::Message> {
    with_properties(body_of(object)?, properties)
}

fn with_properties(
    message: majordomo::Message,
    properties: Option<&Bound<'_, PyAny>>,
) -> PyResult<majordomo::Message> {
    let Some(given) = properties else { return Ok(message) };
    let py = given.py();
    let mut properties = majordomo::Properties::new();
    // Through a dict, whatever kind of mapping it is.
    let pairs = PyDict::new(py);
    pairs.call_method1("update", (given,))?;
    for (name, value) in pairs {
        let name = name.cast_into::<PyString>()?;
        properties.set(&name.to_cow()?, frame_of(&value)?).map_err(|error| raise(py, &error))?;
    }
    Ok(message.with_properties(properties))
}

/// Properties as Python sees them.
pub(crate) fn properties_dict<'py>(
    py: Python<'py>,
    properties: &majordomo::Properties,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in properties.iter() {
        dict.set_item(name, bytes_object(py, value)?)?;
    }
    Ok(dict)
}

fn frame_of(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(frame_of_bytes(bytes));
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(frame_of_bytes(&text.encode_utf8()?));
    }
    // Any buffer, contiguous or not. Its memory may change later, so it is copied now.
    let view = PyMemoryView::from(object).map_err(|_| {
        let kind = object.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string());
        PyTypeError::new_err(format!("a frame is a bytes-like object or a str, not {kind}"))
    })?;
    Ok(frame_of_bytes(view.call_method0("tobytes")?.cast::<PyBytes>()?))
}

fn frame_of_bytes(bytes: &Bound<'_, PyBytes>) -> Bytes {
    if bytes.as_bytes().len() < SHARED_FROM {
        Bytes::copy_from_slice(bytes.as_bytes())
    } else {
        Bytes::from_owner(PyBackedBytes::from(bytes.clone()))
    }
}

/// `PyBytes::new` panics when memory runs out; this raises MemoryError.
fn bytes_object<'py>(py: Python<'py>, frame: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, frame.len(), |buffer| {
        buffer.copy_from_slice(frame);
        Ok(())
    })
}
