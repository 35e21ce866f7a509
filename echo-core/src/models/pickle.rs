//! A pickle of tensors, read without running anything.
//!
//! A pickle is a program for a stack machine. This machine knows the instructions that build
//! dictionaries, lists, tuples, numbers and strings, and three functions by name: the one that
//! makes a tensor of a storage, the one that makes a parameter of a tensor, and `OrderedDict`.
//! Every other call gives an opaque value, so that a checkpoint with an unknown class in a corner
//! still loads and nothing is ever executed.
//!
//! Values are small and copied; containers live in an arena by number. Neither nesting nor sharing
//! can overflow the stack or multiply memory: each instruction makes one value of fixed size.
//! Source: `Lib/pickletools.py` of Python 3.12; `torch/serialization.py` and `torch/_utils.py`.

use std::collections::HashMap;
use std::ops::Range;

use super::bytes::Cursor;
use super::table::Parsed;

/// Longest pickle that is read: large-v3's has 150 kB.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// Most containers, and most values on the stack, of one pickle.
const MAX_VALUES: usize = 1 << 20;

/// Most tensors and numbers that are listed.
const MAX_LISTED: usize = 100_000;

/// Most keys on the way to a tensor, and most bytes of a key.
const MAX_DEPTH: usize = 6;
const MAX_KEY_BYTES: usize = 256;

/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// A value; text is a range of the pickle, containers are numbers in the arena.
#[derive(Debug, Clone, Copy)]
enum Value {
    Int(i64),
    Text(Span),
    Tuple(usize),
    List(usize),
    Dict(usize),
    /// Module and name, or for protocol 4 two strings.
    Global(Span, Span),
    Tensor(usize),
    /// `None`, a float, bytes, an object of an unknown class.
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Span {
    start: u32,
    end: u32,
}

/// A tensor as a view of a storage, counted in items.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Keys on the way to it, joined by `/`.
    pub(crate) path: String,
    /// The name of the storage's file.
    pub(crate) storage: String,
    /// The storage's class, such as `HalfStorage`.
    pub(crate) storage_class: String,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// What a pickle holds of use.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) tensors: Vec<View>,
    /// Integers by their path, such as `dims/n_mels`.
    pub(crate) numbers: HashMap<String, i64>,
}

/// Reads a pickle and lists the tensors and integers in its nested dictionaries.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<Contents> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("pickle of {} bytes, expected at most {MAX_BYTES}", bytes.len()));
    }
    let mut machine = Machine { bytes, ..Machine::default() };
    let root = machine.run()?;
    let mut contents = Contents::default();
    let mut visited = vec![false; machine.arena.len()];
    machine.collect(root, &mut Vec::new(), &mut visited, &mut contents)?;
    Ok(contents)
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// Contents of tuples and lists; of dictionaries, keys and values in turn; of tensors, the
    /// arguments they were made of.
    arena: Vec<Vec<Value>>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Parsed<Value> {
        let mut cursor = Cursor::new(self.bytes);
        loop {
            if self.stack.len() > MAX_VALUES || self.arena.len() > MAX_VALUES {
                return Err(format!("pickle of more than {MAX_VALUES} values"));
            }
            let opcode = cursor.u8("a pickle")?;
            if opcode == b'.' {
                return self.pop();
            }
            if !self.simple(opcode, &mut cursor)? && !self.structure(opcode, &mut cursor)? {
                return Err(format!(
                    "has the unknown pickle instruction {opcode:#04x} at byte {}",
                    cursor.position() - 1
                ));
            }
        }
    }

    /// Instructions that push a number, text or nothing of interest.
    fn simple(&mut self, opcode: u8, cursor: &mut Cursor<'a>) -> Parsed<bool> {
        let what = "a pickle";
        let value = match opcode {
            0x80 => {
                cursor.u8(what)?;
                return Ok(true);
            }
            0x95 => {
                cursor.u64(what)?;
                return Ok(true);
            }
            b'J' => Value::Int(i64::from(cursor.u32(what)?.cast_signed())),
            b'K' => Value::Int(i64::from(cursor.u8(what)?)),
            b'M' => Value::Int(i64::from(cursor.u16(what)?)),
            0x8a => {
                let length = cursor.u8(what)?;
                Value::Int(long(cursor.take(usize::from(length), what)?)?)
            }
            0x88 => Value::Int(1),
            0x89 => Value::Int(0),
            b'N' => Value::Opaque,
            b'G' => {
                cursor.u64(what)?;
                Value::Opaque
            }
            b'X' | b'T' => {
                let length = cursor.count(1, "the bytes of a string")?;
                Value::Text(span(cursor, length)?)
            }
            0x8c | b'U' => {
                let length = usize::from(cursor.u8(what)?);
                Value::Text(span(cursor, length)?)
            }
            0x8d => {
                let length = cursor.count_u64(1, "the bytes of a string")?;
                Value::Text(span(cursor, length)?)
            }
            b'B' => {
                let length = cursor.count(1, "bytes")?;
                cursor.take(length, what)?;
                Value::Opaque
            }
            b'C' => {
                let length = usize::from(cursor.u8(what)?);
                cursor.take(length, what)?;
                Value::Opaque
            }
            b'c' => Value::Global(line(cursor)?, line(cursor)?),
            _ => return Ok(false),
        };
        self.stack.push(value);
        Ok(true)
    }

    /// Instructions that work on the stack, the memo and containers.
    fn structure(&mut self, opcode: u8, cursor: &mut Cursor<'a>) -> Parsed<bool> {
        let what = "a pickle";
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' => self.memorise(u32::from(cursor.clone().u8(what)?), cursor, 1)?,
            b'r' => self.memorise(cursor.clone().u32(what)?, cursor, 4)?,
            0x94 => {
                let (key, top) = (self.memo.len() as u32, self.top()?);
                self.memo.insert(key, top);
            }
            b'h' => self.recall(u32::from(cursor.u8(what)?))?,
            b'j' => self.recall(cursor.u32(what)?)?,
            b'}' => self.push_container(Value::Dict, Vec::new()),
            b']' => self.push_container(Value::List, Vec::new()),
            b')' => self.push_container(Value::Tuple, Vec::new()),
            b't' => self.gather(Value::Tuple)?,
            b'l' => self.gather(Value::List)?,
            b'd' => self.gather(Value::Dict)?,
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(underflow)?;
                let items = self.stack.split_off(start);
                self.push_container(Value::Tuple, items);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend(vec![key, value])?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'u' | b'e' => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (name, module) else {
                    return Err("names a function by something that is no text".to_owned());
                };
                self.stack.push(Value::Global(module, name));
            }
            b'Q' => {} // a persistent id stays on the stack as the tuple that describes a storage
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.call(function, arguments);
                self.stack.push(made);
            }
            b'b' => drop(self.pop()?), // the state of an object: its dictionary stays as it is
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn call(&mut self, function: Value, arguments: Value) -> Value {
        let (Value::Global(module, name), Value::Tuple(arguments)) = (function, arguments) else {
            return Value::Opaque;
        };
        match (self.raw(module), self.raw(name)) {
            (b"torch._utils", b"_rebuild_tensor_v2" | b"_rebuild_tensor") => {
                Value::Tensor(arguments)
            }
            (b"torch._utils", b"_rebuild_parameter") => {
                self.arena[arguments].first().copied().unwrap_or(Value::Opaque)
            }
            (b"collections", b"OrderedDict") => {
                self.arena.push(Vec::new());
                Value::Dict(self.arena.len() - 1)
            }
            _ => Value::Opaque,
        }
    }

    fn raw(&self, span: Span) -> &'a [u8] {
        &self.bytes[Range::from(span)]
    }

    fn pop(&mut self) -> Parsed<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(underflow());
        }
        self.stack.pop().ok_or_else(underflow)
    }

    fn top(&self) -> Parsed<Value> {
        self.stack.last().copied().ok_or_else(underflow)
    }

    fn pop_mark(&mut self) -> Parsed<Vec<Value>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or_else(underflow)?))
    }

    fn memorise(&mut self, key: u32, cursor: &mut Cursor<'_>, key_bytes: usize) -> Parsed<()> {
        cursor.take(key_bytes, "a pickle")?;
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Parsed<()> {
        let value = self.memo.get(&key).copied();
        self.stack.push(value.ok_or_else(|| format!("recalls value {key}, which it never kept"))?);
        Ok(())
    }

    fn push_container(&mut self, kind: fn(usize) -> Value, items: Vec<Value>) {
        self.arena.push(items);
        self.stack.push(kind(self.arena.len() - 1));
    }

    fn gather(&mut self, kind: fn(usize) -> Value) -> Parsed<()> {
        let items = self.pop_mark()?;
        self.push_container(kind, items);
        Ok(())
    }

    /// Appends to the container on top of the stack.
    fn extend(&mut self, items: Vec<Value>) -> Parsed<()> {
        match self.top()? {
            Value::Dict(at) | Value::List(at) => self.arena[at].extend(items),
            Value::Opaque => {} // items of an object of an unknown class
            _ => return Err("adds items to something that is no container".to_owned()),
        }
        Ok(())
    }

    /// Lists what is in a dictionary and in the dictionaries within, each once.
    fn collect(
        &self,
        value: Value,
        path: &mut Vec<Span>,
        visited: &mut [bool],
        contents: &mut Contents,
    ) -> Parsed<()> {
        if contents.tensors.len() + contents.numbers.len() > MAX_LISTED {
            return Err(format!("has more than {MAX_LISTED} tensors"));
        }
        match value {
            Value::Dict(at) if path.len() < MAX_DEPTH && !visited[at] => {
                visited[at] = true;
                for pair in self.arena[at].as_chunks::<2>().0 {
                    let [Value::Text(key), value] = *pair else { continue };
                    if Range::from(key).len() <= MAX_KEY_BYTES {
                        path.push(key);
                        self.collect(value, path, visited, contents)?;
                        path.pop();
                    }
                }
            }
            Value::Tensor(at) => {
                let path = self.join(path);
                let Some(view) = self.view(&path, &self.arena[at]) else {
                    return Err(format!(
                        "tensor `{path}` is not described by storage, offset, shape and strides"
                    ));
                };
                contents.tensors.push(view);
            }
            Value::Int(number) => drop(contents.numbers.insert(self.join(path), number)),
            _ => {}
        }
        Ok(())
    }

    fn text(&self, span: Span) -> String {
        String::from_utf8_lossy(self.raw(span)).into_owned()
    }

    fn join(&self, path: &[Span]) -> String {
        path.iter().map(|&key| self.text(key)).collect::<Vec<_>>().join("/")
    }

    /// `_rebuild_tensor_v2(storage, offset, shape, strides, …)` with the storage as the tuple
    /// `("storage", class, key, location, items)`.
    fn view(&self, path: &str, arguments: &[Value]) -> Option<View> {
        let [
            Value::Tuple(storage),
            Value::Int(offset),
            Value::Tuple(shape),
            Value::Tuple(strides),
            ..,
        ] = *arguments
        else {
            return None;
        };
        let [_, Value::Global(_, class), Value::Text(key), ..] = *self.arena[storage] else {
            return None;
        };
        let sizes = |at: usize| {
            let items = &self.arena[at];
            let size = |item: &Value| match item {
                Value::Int(size) => usize::try_from(*size).ok(),
                _ => None,
            };
            (items.len() <= MAX_RANK).then(|| items.iter().map(size).collect::<Option<Vec<_>>>())?
        };
        if Range::from(key).len() + Range::from(class).len() > MAX_KEY_BYTES {
            return None;
        }
        Some(View {
            path: path.to_owned(),
            storage: self.text(key),
            storage_class: self.text(class),
            offset: usize::try_from(offset).ok()?,
            shape: sizes(shape)?,
            strides: sizes(strides)?,
        })
        .filter(|view| view.shape.len() == view.strides.len())
    }
}

impl Span {
    /// Both ends lie within [`MAX_BYTES`].
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }
}

impl From<Span> for Range<usize> {
    fn from(span: Span) -> Self {
        span.start as usize..span.end as usize
    }
}

fn underflow() -> String {
    "takes more values from a pickle's stack than it holds".to_owned()
}

fn span(cursor: &mut Cursor<'_>, length: usize) -> Parsed<Span> {
    let start = cursor.position();
    cursor.take(length, "a string")?;
    Ok(Span::new(start, start + length))
}

/// Text up to the end of the line.
fn line(cursor: &mut Cursor<'_>) -> Parsed<Span> {
    let start = cursor.position();
    while cursor.u8("a name")? != b'\n' {}
    Ok(Span::new(start, cursor.position() - 1))
}

/// An integer in two's complement of any length up to 8 bytes.
fn long(bytes: &[u8]) -> Parsed<i64> {
    if bytes.len() > 8 {
        return Err(format!("has an integer of {} bytes, expected at most 8", bytes.len()));
    }
    let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if is_negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(wide))
}
