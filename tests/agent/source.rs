//! `agent source` and `agent resolve` against a real Git server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use timetracker_operator::agent::report::{ResolveReport, SourceFailure, SourceReport};

use crate::{Agent, Finished};

/// `git http-backend` behind a minimal HTTP server on a loopback port.
struct GitServer {
    directory: TempDir,
    port: u16,
    /// What the requests said of authorization.
    seen: Arc<Mutex<Vec<Option<String>>>>,
}

#[derive(Clone, Default)]
struct Behaviour {
    authorization: Option<String>,
    redirect: Option<String>,
}

impl GitServer {
    fn start(behaviour: Behaviour) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (root, log) = (directory.path().to_owned(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &root, &behaviour, &log);
            }
        });
        Self { directory, port, seen }
    }

    fn git(&self, arguments: &[&str]) -> String {
        let repository = self.directory.path().join("app.git");
        fs::create_dir_all(&repository).unwrap();
        let output = Command::new("git")
            .arg("-C")
            .arg(&repository)
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A repository with two commits on `main` and an annotated tag on the first; returns both ids.
    fn with_history(self) -> (Self, String, String) {
        self.git(&["init", "--quiet"]);
        let commit = |text: &str| {
            fs::write(self.directory.path().join("app.git/file"), text).unwrap();
            self.git(&["add", "file"]);
            self.git(&["commit", "--quiet", "-m", text]);
            self.git(&["rev-parse", "HEAD"])
        };
        let first = commit("first");
        self.git(&["tag", "-a", "v1.0.0", "-m", "release"]);
        let second = commit("second");
        self.git(&["branch", "x;touch${IFS}canary"]);
        (self, first, second)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/app.git", self.port)
    }
}

fn serve(mut stream: TcpStream, root: &Path, behaviour: &Behaviour, seen: &Mutex<Vec<Option<String>>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut headers = std::collections::BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let authorization = headers.get("authorization").cloned();
    seen.lock().unwrap().push(authorization.clone());
    let mut parts = request.split_whitespace();
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Some(redirect) = &behaviour.redirect {
        let _ = write!(stream, "HTTP/1.1 302 Found\r\nLocation: {redirect}{target}\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    if behaviour.authorization.is_some() && behaviour.authorization != authorization {
        let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(refusal.as_bytes());
        return;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("CONTENT_TYPE", headers.get("content-type").cloned().unwrap_or_default())
        .env("HTTP_CONTENT_ENCODING", headers.get("content-encoding").cloned().unwrap_or_default())
        .env("GIT_PROTOCOL", headers.get("git-protocol").cloned().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    let output = backend.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let content = &output[end + 4..];
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len());
    let _ = stream.write_all(content);
}

fn source(url: &str, commit: &str, into: &Path, options: &[&str]) -> Agent {
    let agent = Agent::new(["source", "--url", url, "--commit", commit, "--dest", into.to_str().unwrap()]);
    agent.arguments(options.iter().copied())
}

fn failure(finished: &Finished) -> (SourceFailure, String) {
    match finished.report() {
        SourceReport::Failed { failure, message } => (failure, message),
        SourceReport::Fetched { .. } => panic!("{}", finished.report),
    }
}

#[test]
fn a_commit_alone_is_checked_out_together_with_agent_and_script() {
    let (server, first, _) = GitServer::start(Behaviour::default()).with_history();
    let into = tempfile::tempdir().unwrap();
    let (tree, tools) = (into.path().join("tree"), into.path().join("tools"));
    let script = format!("SCRIPT={}", tools.join("script").display());
    let finished = source(&server.url(), &first, &tree, &["--install", tools.to_str().unwrap(), "--script", &script])
        .env("SCRIPT", "echo $(id) '$$'\n")
        .run();
    let SourceReport::Fetched { commit, .. } = finished.report() else { panic!("{}", finished.report) };
    assert_eq!(commit.as_str(), first);
    assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), "first");
    assert_eq!(fs::read_to_string(tools.join("script")).unwrap(), "echo $(id) '$$'\n");
    assert!(tools.join("timetracker-agent").exists());
    assert!(tree.join(".git/shallow").exists(), "no more than the commit");
}

#[test]
fn a_server_that_gives_out_refs_only_is_asked_by_ref() {
    let (server, first, second) = GitServer::start(Behaviour::default()).with_history();
    // Protocol 2 gives out everything; the older one keeps to this setting.
    server.git(&["config", "uploadpack.allowAnySHA1InWant", "false"]);
    for (commit, options) in [(&second, vec!["--ref", "main"]), (&first, vec!["--ref", "v1.0.0"]), (&first, vec![])] {
        let into = tempfile::tempdir().unwrap();
        let finished = source(&server.url(), commit, into.path(), &options).run();
        assert!(matches!(finished.report(), SourceReport::Fetched { .. }), "{}", finished.report);
    }
}

#[test]
fn the_whole_history_comes_with_tags() {
    let (server, _, second) = GitServer::start(Behaviour::default()).with_history();
    let into = tempfile::tempdir().unwrap();
    let finished = source(&server.url(), &second, into.path(), &["--history", "full"]).run();
    assert!(matches!(finished.report(), SourceReport::Fetched { .. }), "{}", finished.report);
    let described =
        Command::new("git").arg("-C").arg(into.path()).args(["describe", "--tags"]).output().unwrap().stdout;
    assert!(String::from_utf8(described).unwrap().starts_with("v1.0.0-1-g"));
}

fn base_of(server: &GitServer, commit: &str, options: &[&str]) -> (Finished, Option<String>) {
    let into = tempfile::tempdir().unwrap();
    let (tree, base) = (into.path().join("tree"), into.path().join("base"));
    // What an earlier container of the pod left there.
    fs::create_dir(&base).unwrap();
    fs::write(base.join("stale"), "").unwrap();
    let options = [&["--history", "full", "--base-dest", base.to_str().unwrap()], options].concat();
    let finished = source(&server.url(), commit, &tree, &options).run();
    assert!(!base.join("stale").exists());
    let file = fs::read_to_string(base.join("file")).ok();
    (finished, file)
}

#[test]
fn the_tree_before_is_the_parents_or_where_the_branches_part() {
    let (server, first, second) = GitServer::start(Behaviour::default()).with_history();
    assert_eq!(base_of(&server, &second, &[]).1.as_deref(), Some("first"));
    let (finished, none) = base_of(&server, &first, &[]);
    assert!(matches!(finished.report(), SourceReport::Fetched { .. }), "{}", finished.report);
    assert_eq!(none, None, "a first commit has none");
    server.git(&["checkout", "--quiet", "-b", "topic", &first]);
    server.git(&["commit", "--quiet", "--allow-empty", "-m", "one"]);
    server.git(&["commit", "--quiet", "--allow-empty", "-m", "two"]);
    let topic = server.git(&["rev-parse", "HEAD"]);
    assert_eq!(base_of(&server, &topic, &["--base-branch", "main"]).1.as_deref(), Some("first"));
    let (finished, _) = base_of(&server, &topic, &["--base-branch", "gone"]);
    let (class, message) = failure(&finished);
    assert_eq!(class, SourceFailure::NotFound, "{message}");
}

#[test]
fn a_commit_that_does_not_exist_is_not_found() {
    let (server, ..) = GitServer::start(Behaviour::default()).with_history();
    for history in ["commit", "full"] {
        let into = tempfile::tempdir().unwrap();
        let finished = source(&server.url(), &"0123456789".repeat(4), into.path(), &["--history", history]).run();
        assert_eq!(failure(&finished).0, SourceFailure::NotFound, "{}", finished.report);
    }
}

#[test]
fn failures_have_their_class_and_no_token() {
    let into = tempfile::tempdir().unwrap();
    let commit = "0123456789".repeat(4);
    let (server, ..) = GitServer::start(Behaviour::default()).with_history();
    let missing = format!("http://127.0.0.1:{}/other.git", server.port);
    assert_eq!(failure(&source(&missing, &commit, into.path(), &[]).run()).0, SourceFailure::NotFound);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let down = format!("http://127.0.0.1:{closed}/app.git");
    assert_eq!(failure(&source(&down, &commit, into.path(), &[]).run()).0, SourceFailure::Unreachable);
    let locked = GitServer::start(Behaviour { authorization: Some("Basic other".into()), ..Behaviour::default() });
    let (refused, message) =
        failure(&source(&locked.url(), &commit, into.path(), &[]).env("SOURCE_TOKEN", "t0ken").run());
    assert_eq!(refused, SourceFailure::AccessDenied, "{message}");
    assert!(!message.contains("t0ken"), "{message}");
    for url in ["file:///etc", "--upload-pack=id", "ext::sh"] {
        let url = format!("--url={url}");
        let finished = Agent::new(["source", &url, "--commit", &commit, "--dest", into.path().to_str().unwrap()]).run();
        assert_eq!(failure(&finished).0, SourceFailure::Failed);
    }
}

#[test]
fn the_token_opens_its_server_and_stands_nowhere_on_disk() {
    // `x-access-token:t0ken`
    let authorization = "Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=";
    let behaviour = Behaviour { authorization: Some(authorization.into()), ..Behaviour::default() };
    let (server, _, second) = GitServer::start(behaviour).with_history();
    let into = tempfile::tempdir().unwrap();
    let finished = source(&server.url(), &second, into.path(), &[]).env("SOURCE_TOKEN", "t0ken").run();
    assert!(matches!(finished.report(), SourceReport::Fetched { .. }), "{}", finished.report);
    let found = Command::new("grep").args(["-rlE", "t0ken|eC1hY2"]).arg(into.path()).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn a_redirect_to_another_host_never_gets_the_token() {
    let (other, _, second) = GitServer::start(Behaviour::default()).with_history();
    let target = format!("http://127.0.0.1:{}", other.port);
    let server = GitServer::start(Behaviour { redirect: Some(target), ..Behaviour::default() });
    let into = tempfile::tempdir().unwrap();
    let finished = source(&server.url(), &second, into.path(), &[]).env("SOURCE_TOKEN", "t0ken").run();
    assert!(matches!(finished.report(), SourceReport::Failed { .. }), "{}", finished.report);
    assert!(other.seen.lock().unwrap().is_empty());
    let followed = source(&server.url(), &second, into.path(), &[]).run();
    assert!(matches!(followed.report(), SourceReport::Fetched { .. }), "without a token it may: {}", followed.report);
}

fn resolve(server: &GitServer, options: &[&str]) -> ResolveReport {
    Agent::new(["resolve", "--url", &server.url()]).arguments(options.iter().copied()).run().report()
}

#[test]
fn names_are_resolved_and_tag_objects_peeled() {
    let (server, first, second) = GitServer::start(Behaviour::default()).with_history();
    let commit = |text: &str| ResolveReport::Resolved { commit: text.parse().unwrap() };
    assert_eq!(resolve(&server, &["--branch", "main"]), commit(&second));
    assert_eq!(resolve(&server, &["--tag", "v1.0.0"]), commit(&first));
    assert_eq!(resolve(&server, &["--branch", "x;touch${IFS}canary"]), commit(&second));
    let ResolveReport::Failed { failure, .. } = resolve(&server, &["--branch", "v1.0.0"]) else { panic!("found") };
    assert_eq!(failure, SourceFailure::NotFound);
}
