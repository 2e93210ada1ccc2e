//! For tests: a file system that knows what a power cut would leave, and fails where it is told.
//!
//! The operations go on to a real file system. Beside it stands a model of what is durable: the
//! data of a file after its sync, a name after the sync of its directory (V1). It is the strictest
//! disk: nothing is durable by itself, and nothing is for being found there. The syncs change the
//! model alone, so that tests do not wait for the device.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Error, Metadata, Open, Result, SYNC, Space, Vfs, VfsFile};

/// No space left on device.
pub(crate) const ENOSPC: i32 = 28;
/// Input/output error.
pub(crate) const EIO: i32 = 5;

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Open,
    Create,
    CreateDir,
    Rename,
    RemoveFile,
    RemoveDir,
    Read,
    Write,
    SetSize,
    Preallocate,
    SyncData,
    SyncDir,
}

impl Class {
    /// Those that change something, in the order of their declaration.
    pub(crate) const CHANGES: [Self; 9] = [
        Self::Create,
        Self::CreateDir,
        Self::Rename,
        Self::RemoveFile,
        Self::RemoveDir,
        Self::Write,
        Self::SetSize,
        Self::SyncData,
        Self::SyncDir,
    ];

    fn operation(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::CreateDir => "create directory",
            Self::Rename => "rename to",
            Self::RemoveFile => "remove",
            Self::RemoveDir => "remove directory",
            Self::Read => "read",
            Self::Write => "write",
            Self::SetSize => "truncate",
            Self::Preallocate => "preallocate",
            Self::SyncData | Self::SyncDir => SYNC,
        }
    }
}

/// A file system under observation; a clone observes the same.
#[derive(Debug, Clone)]
pub(crate) struct ProbeVfs {
    inner: Arc<dyn Vfs>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Node>,
    log: Vec<(Class, PathBuf)>,
    faults: Vec<Fault>,
    stall: Option<(Class, Receiver<()>)>,
    free_bytes: Option<u64>,
    violations: Vec<String>,
}

#[derive(Debug, Clone)]
enum Node {
    File { dirty: bool },
    Directory { live: BTreeMap<String, usize>, durable: BTreeMap<String, usize> },
}

#[derive(Debug)]
struct Fault {
    class: Class,
    /// Fails when it comes down to zero, and from then on if `persistent`.
    countdown: usize,
    errno: i32,
    persistent: bool,
    fired: bool,
}

fn directory() -> Node {
    Node::Directory { live: BTreeMap::new(), durable: BTreeMap::new() }
}

fn names(path: &Path) -> Vec<String> {
    let normal = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_str().unwrap().to_owned()),
        _ => None,
    });
    normal.collect()
}

impl State {
    /// The node of a path in the live tree; what the model has not seen was made by an outsider.
    fn node(&mut self, path: &Path) -> usize {
        let mut node = 0;
        let mut so_far = PathBuf::from("/");
        for name in names(path) {
            so_far.push(&name);
            node = match self.live(node).get(&name) {
                Some(next) => *next,
                None => self.add(
                    node,
                    name,
                    if so_far.is_dir() { directory() } else { Node::File { dirty: true } },
                ),
            };
        }
        node
    }

    fn live(&mut self, node: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.nodes[node] {
            Node::Directory { live, .. } => live,
            Node::File { .. } => panic!("a file has no entries"),
        }
    }

    fn add(&mut self, parent: usize, name: String, node: Node) -> usize {
        self.nodes.push(node);
        let added = self.nodes.len() - 1;
        self.live(parent).insert(name, added);
        added
    }

    fn split(&mut self, path: &Path) -> (usize, String) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (self.node(path.parent().unwrap()), name)
    }

    fn create(&mut self, path: &Path, node: Node) -> usize {
        let (parent, name) = self.split(path);
        self.add(parent, name, node)
    }

    fn remove(&mut self, path: &Path) {
        let (parent, name) = self.split(path);
        self.live(parent).remove(&name);
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        let node = self.node(from);
        // B1 is about what gets a content's name; what loses one may be anything.
        let is_named = !to.components().any(|part| part.as_os_str() == "quarantine");
        if is_named && !self.is_settled(node) {
            self.violations.push(format!("B1: {} renamed before its sync", from.display()));
        }
        self.remove(from);
        let (parent, name) = self.split(to);
        self.live(parent).insert(name, node);
    }

    /// Whether everything in this node, though not its own name, is durable.
    fn is_settled(&self, node: usize) -> bool {
        match &self.nodes[node] {
            Node::File { dirty } => !dirty,
            Node::Directory { live, durable } => {
                live == durable && live.values().all(|node| self.is_settled(*node))
            }
        }
    }

    /// Counts down to the planned fault.
    fn fault(&mut self, class: Class, path: &Path) -> Result<()> {
        self.log.push((class, path.to_owned()));
        let Some(fault) = self.faults.iter_mut().find(|fault| fault.class == class) else {
            return Ok(());
        };
        fault.countdown = fault.countdown.saturating_sub(1);
        if fault.countdown > 0 || (fault.fired && !fault.persistent) {
            return Ok(());
        }
        fault.fired = true;
        let source = io::Error::from_raw_os_error(fault.errno);
        Err(Error::new(class.operation(), path, source))
    }
}

impl ProbeVfs {
    /// Observes `inner`; everything below `root` counts as not durable, its ancestors as durable.
    pub(crate) fn new(inner: Arc<dyn Vfs>, root: &Path) -> Self {
        let nodes = vec![directory()];
        let state = State {
            nodes,
            log: vec![],
            faults: vec![],
            stall: None,
            free_bytes: None,
            violations: vec![],
        };
        let probe = Self { inner, state: Arc::new(Mutex::new(state)) };
        for ancestor in root.ancestors() {
            let mut state = probe.state();
            let node = state.node(ancestor);
            let entries = state.live(node).clone();
            state.nodes[node] = Node::Directory { live: entries.clone(), durable: entries };
        }
        probe
    }

    /// Held over an operation and its effect on the model: to others they are one step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the `nth` (from 1) operation of a class fail, and all later ones if `persistent`;
    /// one fault for each class.
    pub(crate) fn fail(&self, class: Class, nth: usize, errno: i32, persistent: bool) {
        let fault = Fault { class, countdown: nth, errno, persistent, fired: false };
        self.state().faults.push(fault);
    }

    /// Ends the faults; whether all came to pass.
    pub(crate) fn heal(&self) -> bool {
        let faults = std::mem::take(&mut self.state().faults);
        faults.iter().all(|fault| fault.fired)
    }

    /// Stops the next operation of a class until the sender is dropped.
    pub(crate) fn stall(&self, class: Class) -> Sender<()> {
        let (sender, receiver) = channel();
        self.state().stall = Some((class, receiver));
        sender
    }

    /// Whether the operation that was to be stopped has begun.
    pub(crate) fn has_stalled(&self) -> bool {
        self.state().stall.is_none()
    }

    /// From now on so much is said to be free, whatever is.
    pub(crate) fn say_free(&self, free_bytes: u64) {
        self.state().free_bytes = Some(free_bytes);
    }

    /// Paths of the operations of a class so far, in order.
    pub(crate) fn paths(&self, class: Class) -> Vec<PathBuf> {
        let state = self.state();
        let of_class = state.log.iter().filter(|(logged, _)| *logged == class);
        of_class.map(|(_, path)| path.clone()).collect()
    }

    /// Whether the path, with its content, would be there after a power cut.
    pub(crate) fn is_durable(&self, path: &Path) -> bool {
        let mut state = self.state();
        let node = state.node(path);
        let mut current = 0;
        for name in names(path) {
            let Node::Directory { live, durable } = &state.nodes[current] else { return false };
            if durable.get(&name) != live.get(&name) {
                return false;
            }
            current = live[&name];
        }
        current == node && state.is_settled(node)
    }

    /// Breaches of B1 so far: something renamed before it was durable.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Logs, stops or fails the operation.
    fn gate(&self, class: Class, path: &Path) -> Result<()> {
        let stall = {
            let mut state = self.state();
            let found = state.stall.as_ref().is_some_and(|(stalled, _)| *stalled == class);
            if found { state.stall.take() } else { None }
        };
        if let Some((_, released)) = stall {
            let _ = released.recv();
        }
        self.state().fault(class, path)
    }
}

impl Vfs for ProbeVfs {
    fn open(&self, path: &Path, how: Open) -> Result<Arc<dyn VfsFile>> {
        let create = matches!(how, Open::Create { .. });
        self.gate(if create { Class::Create } else { Class::Open }, path)?;
        let mut state = self.state();
        let inner = self.inner.open(path, how)?;
        let node =
            if create { state.create(path, Node::File { dirty: true }) } else { state.node(path) };
        Ok(Arc::new(ProbeFile { inner, probe: self.clone(), path: path.to_owned(), node }))
    }

    fn create_dir(&self, path: &Path, mode: u32) -> Result<()> {
        self.gate(Class::CreateDir, path)?;
        let mut state = self.state();
        self.inner.create_dir(path, mode)?;
        state.create(path, directory());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.gate(Class::Rename, to)?;
        let mut state = self.state();
        self.inner.rename(from, to)?;
        state.rename(from, to);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.gate(Class::RemoveFile, path)?;
        let mut state = self.state();
        self.inner.remove_file(path)?;
        state.remove(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.gate(Class::RemoveDir, path)?;
        let mut state = self.state();
        self.inner.remove_dir(path)?;
        state.remove(path);
        Ok(())
    }

    fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        self.inner.metadata(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.gate(Class::SyncDir, path)?;
        let mut state = self.state();
        if self.inner.metadata(path)?.is_none() {
            return Err(Error::new("open", path, io::ErrorKind::NotFound.into()));
        }
        let node = state.node(path);
        if let Node::Directory { live, durable } = &mut state.nodes[node] {
            durable.clone_from(live);
        }
        Ok(())
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let space = self.inner.space(path)?;
        let free_bytes = self.state().free_bytes.unwrap_or(space.free_bytes);
        Ok(Space { free_bytes, ..space })
    }
}

#[derive(Debug)]
struct ProbeFile {
    inner: Arc<dyn VfsFile>,
    probe: ProbeVfs,
    path: PathBuf,
    node: usize,
}

impl ProbeFile {
    fn set_dirty(&self, dirty: bool) {
        self.probe.state().nodes[self.node] = Node::File { dirty };
    }
}

impl VfsFile for ProbeFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.probe.gate(Class::Read, &self.path)?;
        self.inner.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.set_dirty(true);
        if let Err(error) = self.probe.gate(Class::Write, &self.path) {
            // As on a full disk: a part arrives before the error.
            self.inner.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        self.inner.write_all_at(bytes, offset)
    }

    fn size_bytes(&self) -> Result<u64> {
        self.inner.size_bytes()
    }

    fn set_size(&self, size_bytes: u64) -> Result<()> {
        self.probe.gate(Class::SetSize, &self.path)?;
        self.set_dirty(true);
        self.inner.set_size(size_bytes)
    }

    fn preallocate(&self, offset: u64, length: u64) -> Result<()> {
        self.probe.gate(Class::Preallocate, &self.path)?;
        self.inner.preallocate(offset, length)
    }

    fn sync_data(&self) -> Result<()> {
        self.probe.gate(Class::SyncData, &self.path)?;
        self.inner.sync_data()?;
        self.set_dirty(false);
        Ok(())
    }

    fn try_lock(&self) -> Result<bool> {
        self.inner.try_lock()
    }

    fn drop_cache(&self) -> Result<()> {
        self.inner.drop_cache()
    }
}
