use std::fs;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_testbed::Host;

use super::Directory;
use super::program::{Program, find};

/// How long the last line of a log may take.
const LOG: Duration = Duration::from_secs(5);

/// A key and a certificate that signs itself.
pub(super) struct Certificate(Directory);

impl Certificate {
    /// One for that name.
    pub(super) fn of(name: &str) -> Self {
        let directory = Directory::new();
        let [key, certificate] = ["key.pem", "certificate.pem"].map(|file| directory.path().join(file));
        let output = std::process::Command::new(find("openssl").unwrap())
            .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
            .arg("-keyout")
            .arg(key)
            .arg("-out")
            .arg(certificate)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(directory)
    }

    /// Where the certificate is.
    pub(super) fn path(&self) -> String {
        self.file("certificate.pem")
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// nginx in a pod, with http on 80 and https on 443; every page is the pod's name.
pub(super) struct Nginx {
    name: String,
    directory: Directory,
    // Held for its Drop.
    _program: Program,
}

/// A line of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Who asked.
    pub(super) client: IpAddr,
    /// `http` or `https`.
    pub(super) scheme: String,
}

impl Nginx {
    /// Starts it; everything it writes goes to a directory of its own.
    pub(super) fn start(pod: &Host, certificate: &Certificate) -> Self {
        let directory = Directory::new();
        let here = directory.path().display();
        let name = pod.name();
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|file| certificate.file(file));
        // A process of its own and no keep-alive: whoever asks again connects again. The user is the one it runs as,
        // in a user namespace the only one there is.
        let configuration = format!(
            "daemon off; master_process off; user root root; pid {here}/pid; error_log {here}/error.log;
            events {{ }}
            http {{
                client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
                uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
                log_format tested '$remote_addr $scheme $uri';
                access_log {here}/access.log tested;
                keepalive_timeout 0;
                server {{
                    listen 80; listen [::]:80; listen 443 ssl; listen [::]:443 ssl;
                    ssl_certificate {certificate}; ssl_certificate_key {key};
                    location / {{ return 200 \"{name}\\n\"; }}
                }}
            }}"
        );
        directory.write("nginx.conf", &configuration);
        let arguments = ["-p".to_owned(), here.to_string(), "-c".to_owned(), format!("{here}/nginx.conf")];
        let program = Program::start(pod, "nginx", &arguments, 443);
        Self { name: name.to_owned(), directory, _program: program }
    }

    /// The pod it runs in.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The requests for pages whose path has that mark, as soon as there are so many.
    pub(super) fn requests(&self, mark: &str, count: usize) -> Vec<Request> {
        let start = Instant::now();
        loop {
            let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap();
            let lines = log.lines().filter(|line| line.ends_with(&format!(" /{mark}")));
            let requests: Vec<Request> = lines.map(parse).collect();
            // nginx answers first and writes its log then.
            if requests.len() >= count || start.elapsed() > LOG {
                assert_eq!(requests.len(), count, "{log}");
                return requests;
            }
            sleep(Duration::from_millis(5));
        }
    }
}

fn parse(line: &str) -> Request {
    let words: Vec<&str> = line.split(' ').collect();
    Request { client: words[0].parse().unwrap(), scheme: words[1].to_owned() }
}
