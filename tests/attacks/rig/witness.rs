//! Asks the device all the time, and knows the right answers: golden vectors of the honest version, from its folder.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};

use super::{release::folder, wait};

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Default)]
struct State {
    answers: AtomicU64,
    wrong: Mutex<Vec<String>>,
    stop: AtomicBool,
    /// Held while a question is asked, and by whoever needs silence.
    line: Mutex<()>,
}

pub(crate) struct Witness {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct Question {
    request: Vec<u8>,
    label: i64,
    probabilities: Vec<f64>,
}

impl Witness {
    /// Asks the API at `socket`, which must answer as `version`.
    pub(crate) fn start(socket: PathBuf, version: &str) -> Self {
        let (state, version) = (Arc::<State>::default(), version.to_owned());
        let asking = state.clone();
        let thread = thread::spawn(move || {
            let questions: Vec<_> = (0..16).map(|set| question(&version, set)).collect();
            for question in questions.iter().cycle() {
                if asking.stop.load(Ordering::Relaxed) {
                    return;
                }
                let line = asking.line.lock().unwrap();
                match ask(&socket, question, &version) {
                    Ok(()) => drop(asking.answers.fetch_add(1, Ordering::Relaxed)),
                    Err(why) => asking.wrong.lock().unwrap().push(why),
                }
                drop(line);
                thread::park_timeout(PAUSE);
            }
        });
        Self { state, thread: Some(thread) }
    }

    /// Nobody asks until the answer is dropped: the agent is to be stopped.
    pub(crate) fn silence(&self) -> MutexGuard<'_, ()> {
        self.state.line.lock().unwrap()
    }

    /// Waits for another answer, and for everything so far to have been right; the number of answers.
    pub(crate) fn still_answered(&self, meanwhile: &str) -> u64 {
        let before = self.state.answers.load(Ordering::Relaxed);
        wait("the active version goes on answering", || {
            self.check(meanwhile);
            let now = self.state.answers.load(Ordering::Relaxed);
            (now > before).then_some(now)
        })
    }

    fn check(&self, meanwhile: &str) {
        let wrong = self.state.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{meanwhile}: {} answers were wrong, first: {}", wrong.len(), wrong[0]);
    }

    /// Ends it; the number of answers, all of them right.
    pub(crate) fn end(mut self) -> u64 {
        self.state.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().unwrap();
        self.check("until the end");
        self.state.answers.load(Ordering::Relaxed)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
    }
}

/// Asks one question of whatever answers by now.
pub(crate) fn ask_once(socket: &Path, version: &str) {
    // Who waits for a version asks before it is there.
    let _ = ask(socket, &question(version, 0), version);
}

/// A golden vector's last bytes are its raw numbers.
fn raw(version: &str, set: usize, file: &str, bytes: usize) -> Vec<u8> {
    let all = fs::read(folder(version).join(format!("test_data_set_{set}/{file}.pb"))).unwrap();
    all[all.len() - bytes..].to_vec()
}

fn floats(raw: &[u8]) -> Vec<f64> {
    raw.chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap()))).collect()
}

fn question(version: &str, set: usize) -> Question {
    let pixels = floats(&raw(version, set, "input_0", 64 * 4));
    let body = json!({"inputs": [{"name": "pixels", "shape": [1, 8, 8], "datatype": "FP32", "data": pixels}]});
    let body = body.to_string();
    let head = "POST /v2/models/meter-digits/infer HTTP/1.1\r\nhost: device\r\nconnection: close\r\ncontent-length:";
    Question {
        request: format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes(),
        label: i64::from_le_bytes(raw(version, set, "output_0", 8).try_into().unwrap()),
        probabilities: floats(&raw(version, set, "output_1", 10 * 4)),
    }
}

fn ask(socket: &Path, question: &Question, version: &str) -> Result<(), String> {
    let reply = exchange(socket, &question.request).map_err(|error| error.to_string())?;
    let found = reply["model_version"].as_str().unwrap_or("none");
    if found != version {
        return Err(format!("{found} answered: {reply}"));
    }
    let output = |name: &str| {
        let outputs = reply["outputs"].as_array().into_iter().flatten();
        outputs.clone().find(|output| output["name"] == name).map(|output| output["data"].clone()).unwrap_or_default()
    };
    if output("label")[0].as_i64() != Some(question.label) {
        return Err(format!("{} where {} is right", output("label"), question.label));
    }
    let probabilities: Vec<f64> = serde_json::from_value(output("probabilities")).map_err(|error| error.to_string())?;
    let is_near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-3;
    if probabilities.len() != 10 || !probabilities.iter().zip(&question.probabilities).all(is_near) {
        return Err(format!("{probabilities:?} where {:?} is right", question.probabilities));
    }
    Ok(())
}

fn exchange(socket: &Path, request: &[u8]) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request)?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut rest = String::new();
    reader.read_to_string(&mut rest)?;
    let body = rest.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).map_err(|error| std::io::Error::other(format!("{status}{rest}: {error}")))
}
