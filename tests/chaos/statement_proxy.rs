//! A proxy between the store and PostgreSQL that forwards statement by statement, and cuts the connection before or inside a
//! given one.
//!
//! Every process has a proxy of its own. A kill closes it, and once [`StatementProxy::close`] returns no statement of the process
//! runs. The sessions of the server outlive the proxies, because a new session with its query plans is the most expensive part of
//! a seed.

use std::{io, path::PathBuf, str::FromStr, sync::Arc};

use parking_lot::Mutex;
use tasker_test_support::{Stream, connect, host_of};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where a statement is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It never reaches the server.
    Before,
    /// The server carries it out, and its answer is lost.
    Inside,
}

/// The next statements that contain `statement`, such as the functions of a verb, are cut, `times` times.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    pub statement: &'static str,
    pub cut: Cut,
    pub times: usize,
}

/// A statement that waits for its turn. Dropping this ends the connection before it.
pub struct Turn(oneshot::Sender<Option<Cut>>);

impl Turn {
    /// Lets it be carried out, or cuts it.
    pub fn go(self, cut: Option<Cut>) {
        // Without a receiver the connection has ended already.
        let _ = self.0.send(cut);
    }
}

/// Bugs that are planted between the engine and the database.
#[derive(Debug, Default, Clone)]
pub struct Bugs {
    /// A part of a statement, and its replacement.
    pub rewrite: Option<(&'static str, &'static str)>,
    /// The engine gets its answer before the commit, and a cut rolls the transaction back.
    pub answer_before_commit: bool,
}

/// A session of the server.
struct Session {
    stream: BufReader<Box<dyn Stream>>,
    greeting: Vec<u8>,
}

/// The sessions that proxies share.
pub struct Sessions {
    server: tokio_postgres::Config,
    idle: Mutex<Vec<Session>>,
    bugs: Bugs,
    rewritten: Mutex<usize>,
}

impl Sessions {
    pub fn new(url: &str, bugs: Bugs) -> Arc<Self> {
        let server = tokio_postgres::Config::from_str(url).expect("the address of a test database can be read");
        Arc::new(Self { server, idle: Mutex::default(), bugs, rewritten: Mutex::default() })
    }

    /// The planted bugs.
    pub fn bugs(&self) -> &Bugs {
        &self.bugs
    }

    /// How many statements were changed by [`Bugs::rewrite`].
    pub fn rewritten(&self) -> usize {
        *self.rewritten.lock()
    }

    async fn take(&self, startup: &[u8]) -> io::Result<Session> {
        if let Some(session) = self.idle.lock().pop() {
            return Ok(session);
        }
        let (host, port) = host_of(&self.server);
        let mut stream = BufReader::new(connect(&host, port).await?);
        stream.write_all(startup).await?;
        let greeting = answer(&mut stream).await?;
        Ok(Session { stream, greeting })
    }

    fn planted(&self, unit: Vec<u8>) -> Vec<u8> {
        let Some((from, to)) = self.bugs.rewrite else { return unit };
        let Some(at) = find(&unit, from) else { return unit };
        *self.rewritten.lock() += 1;
        let mut changed = [&unit[..at], to.as_bytes(), &unit[at + from.len()..]].concat();
        // A unit begins with Parse; its length follows the type byte.
        let length = u32::from_be_bytes(changed[1..5].try_into().expect("four bytes")) as usize + to.len() - from.len();
        changed[1..5].copy_from_slice(&(length as u32).to_be_bytes());
        changed
    }
}

/// The way of one process to the database.
pub struct StatementProxy {
    pub url: String,
    gate: Arc<Gate>,
    folder: tempfile::TempDir,
}

struct Gate {
    sessions: Arc<Sessions>,
    closed: CancellationToken,
    visitors: TaskTracker,
    /// Where every statement that moves rows waits for its turn. None: statements do not wait.
    turns: Option<mpsc::UnboundedSender<Turn>>,
    order: Mutex<Option<Order>>,
    /// What was cut since the order was given.
    cuts: Mutex<Vec<Order>>,
}

impl StatementProxy {
    pub fn open(sessions: &Arc<Sessions>) -> Self {
        Self::open_with(sessions, None)
    }

    /// A proxy at which statements wait for their turns.
    pub fn open_by_turns(sessions: &Arc<Sessions>) -> (Self, mpsc::UnboundedReceiver<Turn>) {
        let (turns, waiting) = mpsc::unbounded_channel();
        (Self::open_with(sessions, Some(turns)), waiting)
    }

    fn open_with(sessions: &Arc<Sessions>, turns: Option<mpsc::UnboundedSender<Turn>>) -> Self {
        let folder = tempfile::Builder::new().prefix("chaos").tempdir_in("/tmp").expect("/tmp can be written");
        let listener = UnixListener::bind(socket(&folder)).expect("a new folder has room for a socket");
        let user = sessions.server.get_user().unwrap_or("postgres");
        let database = sessions.server.get_dbname().unwrap_or("postgres");
        let url = format!("host={} user={user} dbname={database}", folder.path().display());
        let gate = Arc::new(Gate {
            sessions: sessions.clone(),
            closed: CancellationToken::new(),
            visitors: TaskTracker::new(),
            turns,
            order: Mutex::default(),
            cuts: Mutex::default(),
        });
        gate.visitors.spawn(gate.clone().listen(listener));
        Self { url, gate, folder }
    }

    /// Sets what is cut next. Answers what the previous order cut.
    pub fn order(&self, order: Option<Order>) -> Vec<Order> {
        *self.gate.order.lock() = order;
        std::mem::take(&mut *self.gate.cuts.lock())
    }

    /// Ends every connection of the process, after the server has finished the statements that run.
    pub async fn close(self) {
        self.gate.closed.cancel();
        self.gate.visitors.close();
        self.gate.visitors.wait().await;
        // The engine may connect again for a while, and must be refused.
        drop(self.folder);
    }
}

impl Gate {
    async fn listen(self: Arc<Self>, listener: UnixListener) {
        loop {
            let visitor = tokio::select! {
                visitor = listener.accept() => visitor,
                () = self.closed.cancelled() => return,
            };
            if let Ok((client, _)) = visitor {
                self.visitors.spawn(self.clone().visit(client));
            }
        }
    }

    async fn visit(self: Arc<Self>, client: UnixStream) {
        // However it ends, the client sees a closed connection.
        let _ = self.serve(&mut BufReader::new(client)).await;
    }

    async fn serve(&self, client: &mut BufReader<UnixStream>) -> io::Result<()> {
        let startup = untagged(client).await?;
        let mut session = self.sessions.take(&startup).await?;
        client.write_all(&session.greeting).await?;
        loop {
            let unit = tokio::select! {
                unit = unit(client) => unit,
                () = self.closed.cancelled() => Ok(None),
            };
            let Ok(Some(unit)) = unit else { break };
            let Some(cut) = self.turn(&unit).await else { break };
            let unit = self.sessions.planted(unit);
            if cut == Some(Cut::Before) {
                if self.sessions.bugs.answer_before_commit {
                    answer_and_roll_back(client, &mut session.stream, &unit).await?;
                }
                break;
            }
            session.stream.write_all(&unit).await?;
            let answer = answer(&mut session.stream).await?;
            if cut == Some(Cut::Inside) || self.closed.is_cancelled() {
                break;
            }
            if client.write_all(&answer).await.is_err() {
                break;
            }
        }
        self.sessions.idle.lock().push(session);
        Ok(())
    }

    /// Waits for the turn of a statement, and answers where it is cut. None: its turn will not come.
    async fn turn(&self, unit: &[u8]) -> Option<Option<Cut>> {
        // Templates are read again after a second of real time and never change, so these reads need no turn.
        let Some(turns) = self.turns.as_ref().filter(|_| find(unit, "tasker.templates").is_none()) else {
            return Some(self.cut(unit));
        };
        let (go, gone) = oneshot::channel();
        turns.send(Turn(go)).ok()?;
        tokio::select! {
            biased;
            cut = gone => cut.ok(),
            () = self.closed.cancelled() => None,
        }
    }

    fn cut(&self, unit: &[u8]) -> Option<Cut> {
        let mut order = self.order.lock();
        let now = order.as_mut().filter(|o| o.times > 0 && find(unit, o.statement).is_some())?;
        now.times -= 1;
        self.cuts.lock().push(*now);
        Some(now.cut)
    }
}

async fn answer_and_roll_back(
    client: &mut BufReader<UnixStream>,
    server: &mut BufReader<Box<dyn Stream>>,
    unit: &[u8],
) -> io::Result<()> {
    server.write_all(&simple("begin")).await?;
    answer(server).await?;
    server.write_all(unit).await?;
    let mut rows = answer(server).await?;
    // As if no transaction were open.
    *rows.last_mut().expect("an answer ends with the state of the transaction") = b'I';
    client.write_all(&rows).await?;
    server.write_all(&simple("rollback")).await?;
    answer(server).await.map(drop)
}

fn simple(sql: &str) -> Vec<u8> {
    let mut message = vec![b'Q'];
    message.extend((sql.len() as u32 + 5).to_be_bytes());
    message.extend(sql.as_bytes());
    message.push(0);
    message
}

/// What the client sends up to its next Sync or simple query; none when it leaves.
async fn unit(client: &mut BufReader<UnixStream>) -> io::Result<Option<Vec<u8>>> {
    let mut unit = Vec::new();
    loop {
        match message(client, &mut unit).await? {
            b'S' | b'Q' => return Ok(Some(unit)),
            b'X' => return Ok(None),
            _ => {}
        }
    }
}

/// What the server sends until it is ready again.
async fn answer(server: &mut BufReader<Box<dyn Stream>>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    while message(server, &mut answer).await? != b'Z' {}
    Ok(answer)
}

/// Appends one message to `bytes`; answers its type byte.
async fn message(from: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> io::Result<u8> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await?;
    let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes")) as usize;
    bytes.extend(head);
    let start = bytes.len();
    bytes.resize(start + length - 4, 0);
    from.read_exact(&mut bytes[start..]).await?;
    Ok(head[0])
}

/// Reads the first message of a connection, which has no type byte.
async fn untagged(client: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    let mut bytes = vec![0; length as usize];
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    client.read_exact(&mut bytes[4..]).await?;
    Ok(bytes)
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|w| w == text.as_bytes())
}

fn socket(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join(".s.PGSQL.5432")
}
