//! The configuration's faults, and what a good one means.

use super::*;
use crate::hooks::{Action, Job, Process, SignalName};

const LEAST: &str = r#"
broker = "127.0.0.1:8443"
plant = "plant.example"
plant_root = "plant-root.pem"
"#;

fn faults(text: &str) -> Vec<String> {
    Config::parse(Path::new("/etc/touchstone"), text).unwrap_err()
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = Config::parse(Path::new("/etc/touchstone"), LEAST).unwrap();
    assert_eq!(config.plant_root, Path::new("/etc/touchstone/plant-root.pem"));
    assert_eq!(config.tpm.unwrap().to_string(), "device:/dev/tpmrm0");
    assert_eq!(config.state, Path::new("/var/lib/touchstone-attestor"));
    assert_eq!(config.deliver, Path::new("/run/touchstone"));
    assert_eq!(config.broker.to_string(), "127.0.0.1:8443");
    assert_eq!(config.ima_log, None);
}

#[test]
fn a_full_configuration_is_read() {
    let text = format!(
        "{LEAST}{}",
        r#"
tpm = "swtpm:host=127.0.0.1,port=2321"
state = "/s"
deliver = "/d"
device = "press-1"
zones = ["press", "cell-3"]
join_token_file = "token"
firmware_log = "log"
ima_log = "ima"
on_wanted = ["/usr/local/bin/update", "--now"]
[[service]]
name = "opcua"
port = 4840
[[service]]
name = "hmi"
port = 443
key = "software"
[[hook]]
name = "mosquitto"
service = "mqtt"
reload = ["/usr/bin/systemctl", "reload", "mosquitto"]
restart = ["/usr/bin/systemctl", "restart", "mosquitto"]
[[hook]]
name = "press"
restart = ["/usr/local/bin/told"]
timeout = 5
[inventory]
model = "X"
[health]
command = ["/usr/local/bin/health"]
timeout = 5
"#
    );
    let config = Config::parse(Path::new("/etc"), &text).unwrap();
    assert_eq!(config.device.unwrap().as_str(), "press-1");
    assert_eq!(config.zones.len(), 2);
    assert_eq!(config.join_token_file.unwrap(), Path::new("/etc/token"));
    let service = |name: &str, port, key| Service { name: name.parse().unwrap(), port, key };
    let services = [service("opcua", 4840, KeyPlace::Tpm), service("hmi", 443, KeyPlace::Software)];
    assert_eq!(config.services, services);
    assert_eq!(config.inventory["model"], "X");
    assert_eq!(config.ima_log.unwrap(), Path::new("/etc/ima"));
    assert_eq!(config.on_wanted.unwrap(), ["/usr/local/bin/update", "--now"]);
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let [mosquitto, press] = &config.hooks[..] else { panic!("{:?}", config.hooks) };
    assert_eq!(mosquitto.service, Some("mqtt".parse().unwrap()));
    assert_eq!(mosquitto.reload, Action::Command(words("/usr/bin/systemctl reload mosquitto")));
    assert_eq!(mosquitto.restart, Action::Command(words("/usr/bin/systemctl restart mosquitto")));
    assert_eq!((&press.service, press.timeout), (&None, std::time::Duration::from_secs(5)));
    assert_eq!(
        (&press.reload, &press.restart),
        (&press.restart, &Action::Command(words("/usr/local/bin/told")))
    );
    let health = config.health.unwrap();
    assert_eq!(
        (health.command.as_slice(), health.timeout.as_secs()),
        (&["/usr/local/bin/health".to_owned()][..], 5)
    );
    let off = Config::parse(Path::new("/etc"), &text.replace(r#""ima""#, r#""""#)).unwrap();
    assert_eq!(off.ima_log, None);
}

#[test]
fn all_faults_are_reported_at_once_each_with_its_key() {
    let found = faults(
        r#"
broker = "nowhere"
tpm = "tpm0"
device = "Press 1"
zones = ["a", "a", "www"]
[[service]]
name = "opcua"
port = 70000
[inventory]
model = ""
"#,
    );
    let keys: Vec<&str> = found.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    let expected = [
        "broker",
        "plant",
        "plant_root",
        "tpm",
        "device",
        "zones",
        "zones",
        "service.port",
        "inventory.model",
    ];
    assert_eq!(keys, expected, "{found:#?}");
}

#[test]
fn a_missing_key_comes_with_an_example() {
    assert_eq!(faults("")[1], "plant: missing; write for example plant = \"plant.example\"");
}

#[test]
fn unknown_keys_are_refused_by_name_together_with_other_faults() {
    let text = "tmp = \"device:/dev/tpmrm0\"\n[[service]]\nname = \"opcua\"\nport = 4840\nprot = 1\n";
    let found = faults(&format!("{LEAST}zones = [\"A\"]\n{text}"));
    let keys: Vec<&str> = found.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    assert_eq!(keys, ["zones", "service.prot", "tmp"], "{found:?}");
    assert!(found[2].contains("no such key"));
}

#[test]
fn a_value_of_a_wrong_type_is_shown_with_its_line() {
    let found = faults("plant = \"plant.example\"\nbroker = 1\n");
    assert!(found[0].starts_with("line 2, column 10 `broker = 1`: invalid type: integer `1`"), "{found:?}");
}

#[test]
fn the_error_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("attestor.toml");
    std::fs::write(&file, "broker = 1\n").unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    assert!(error.lines().count() == 1 && error.contains("attestor.toml cannot be used"), "{error}");
}

#[test]
fn broker_addresses_are_strict() {
    for good in ["broker:1", "[::1]:8443", "10.0.0.1:65535", "broker.plant.example:8443"] {
        assert_eq!(good.parse::<BrokerAddress>().unwrap().to_string(), good);
    }
    for bad in ["", ":1", "broker", "broker:0", "broker:65536", "::1:8443", "[::1:1", "a/b:1", "https://b:1"]
    {
        assert!(bad.parse::<BrokerAddress>().is_err(), "{bad}");
    }
}

#[test]
fn a_key_is_in_the_tpm_or_in_software_and_few_are_in_software() {
    let service =
        |n: usize, key: &str| format!("[[service]]\nname = \"s{n}\"\nport = {}\nkey = \"{key}\"\n", n + 1);
    let found = faults(&format!("{LEAST}{}", service(0, "disk")));
    assert_eq!(found, ["service.key: write key = \"tpm\" or key = \"software\""]);
    let many: String = (0..5).map(|n| service(n, "software")).collect();
    assert_eq!(faults(&format!("{LEAST}{many}")), ["service.key: 5 software keys; a device has at most 4"]);
}

#[test]
fn a_program_is_named_by_its_path_and_words() {
    for line in
        ["on_wanted = []", "on_wanted = [\"update --now\"]", "[health]", "[health]\ncommand = [\"true\"]"]
    {
        let faults = faults(&format!("{LEAST}{line}"));
        assert!(
            faults.len() == 1 && faults[0].contains("write the program by its full path"),
            "{line}: {faults:?}"
        );
    }
    let faults = faults(&format!("{LEAST}[health]\ncommand = [\"/h\"]\ntimeout = 31\nshell = true"));
    assert!(faults.iter().any(|fault| fault == "health.timeout: write 1 to 30 seconds"), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("health.shell: there is no such key")), "{faults:?}");
}

#[test]
fn only_this_machine_reads_metrics_and_logs_are_text_or_json() {
    let read = |text: &str| Config::parse(Path::new("/etc"), &format!("{LEAST}{text}"));
    let metrics = |listen: &str| read(&format!("[metrics]\nlisten = \"{listen}\"\n"));
    for good in ["unix:/run/m.sock", "127.0.0.1:9465", "[::1]:9465"] {
        assert_eq!(metrics(good).unwrap().metrics.unwrap().to_string(), good);
    }
    for bad in ["0.0.0.0:9465", "10.0.0.1:9465", "[::]:9465", "localhost:9465", "9465"] {
        let found = metrics(bad).unwrap_err();
        assert!(
            found.len() == 1 && found[0].starts_with("metrics.listen: only this machine"),
            "{bad}: {found:?}"
        );
    }
    let long = format!("unix:/{}", "x".repeat(107));
    assert!(metrics(&long).unwrap_err()[0].contains("at most 107 bytes"));
    assert_eq!(read("").unwrap().log_format, LogFormat::Text);
    assert_eq!(read("log_format = \"json\"").unwrap().log_format, LogFormat::Json);
    assert!(read("log_format = \"xml\"").unwrap_err()[0].starts_with("log_format: write"));
}

#[test]
fn the_safe_state_is_the_first_state_hook() {
    let text = "[[on_state]]\nname = \"lamp\"\ncommand = [\"/lamp\"]\nstates = [\"trusted\"]\ntimeout = 5\n\
                [[on_state]]\nname = \"log\"\ncommand = [\"/log\"]\n[safe_state]\ncommand = [\"/stop\", \"--now\"]\n";
    let config = Config::parse(Path::new("/etc"), &format!("{LEAST}{text}")).unwrap();
    let names: Vec<_> = config.state_hooks.iter().map(|hook| hook.name.as_str()).collect();
    assert_eq!(names, ["safe-state", "lamp", "log"]);
    let [safe, lamp, log] = &config.state_hooks[..] else { panic!("{names:?}") };
    use crate::status::Word;
    assert_eq!(safe.states, Some(vec![Word::Pending, Word::Refused, Word::Quarantined]));
    assert_eq!((&lamp.states, lamp.timeout.as_secs()), (&Some(vec![crate::status::Word::Trusted]), 5));
    assert_eq!((&log.states, log.timeout.as_secs()), (&None, 60));

    let found = faults(&format!(
        "{LEAST}[safe_state]\ntimeout = 601\n[[on_state]]\nname = \"safe-state\"\ncommand = [\"/a\"]\n\
         [[on_state]]\nname = \"b\"\ncommand = [\"b\"]\nstates = [\"happy\"]\nwhen = 1\n"
    ));
    let keys: Vec<&str> = found.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    let expected = [
        "safe_state.timeout",
        "safe_state.command",
        "on_state.name",
        "on_state.when",
        "on_state.command",
        "on_state.states",
    ];
    assert_eq!(keys, expected, "{found:#?}");
}

#[test]
fn only_this_machine_asks_who_may_open_a_service() {
    let read = |listen: &str| {
        let text = format!("{LEAST}[authorize]\nlisten = \"{listen}\"\n");
        Config::parse(Path::new("/etc"), &text).map(|config| config.authorize.unwrap().to_string())
    };
    assert_eq!(read("unix:run/a.sock").unwrap(), "unix:/etc/run/a.sock");
    assert_eq!(read("[::1]:8447").unwrap(), "[::1]:8447");
    for open in ["0.0.0.0:8447", "192.0.2.1:8447", "8447"] {
        assert!(
            read(open).unwrap_err()[0].starts_with("authorize.listen: only this machine may ask"),
            "{open}"
        );
    }
    assert!(read(&format!("unix:/{}", "a".repeat(120))).unwrap_err()[0].contains("at most 107 bytes"));
}

#[test]
fn a_hook_has_a_name_of_its_own_and_something_to_run() {
    let hook = |lines: &str| faults(&format!("{LEAST}[[hook]]\n{lines}"));
    assert!(hook("reload = [\"/r\"]")[0].starts_with("hook.name: missing"));
    assert_eq!(hook("name = \"../x\"\nreload = [\"/r\"]"), ["hook.name: write 1 to 40 of a-z, 0-9 and -"]);
    assert!(hook("name = \"x\"")[0].starts_with("hook.reload: missing"));
    assert!(hook("name = \"x\"\nrestart = [\"r\"]")[0].starts_with("hook.restart: write the program"));
    let line = "name = \"x\"\nreload = [\"/r\"]\n";
    assert_eq!(hook(&format!("{line}timeout = 601")), ["hook.timeout: write 1 to 600 seconds"]);
    assert_eq!(hook(&format!("{line}[[hook]]\n{line}")), ["hook.name: `x` is listed twice; rename one"]);
}

#[test]
fn a_hook_names_a_unit_a_signal_or_a_program() {
    let hook =
        |lines: &str| Config::parse(Path::new("/etc"), &format!("{LEAST}[[hook]]\nname = \"x\"\n{lines}"));
    let read = |lines: &str| {
        hook(lines).map(|config| (config.hooks[0].reload.clone(), config.hooks[0].restart.clone()))
    };
    let unit = |job| Action::Unit { unit: "a@1.service".to_owned(), job };
    let hup = |to| Action::Signal { signal: SignalName::of("HUP").unwrap(), to };
    let both = read("reload = { unit = \"a@1.service\" }\nrestart = { unit = \"a@1.service\" }").unwrap();
    assert_eq!(both, (unit(Job::Reload), unit(Job::Restart)));
    let reload = read("reload = { unit = \"a@1.service\" }").unwrap();
    assert_eq!(
        reload,
        (unit(Job::Reload), unit(Job::Reload)),
        "software whose reload takes authorities away"
    );
    let restart = read("restart = { unit = \"a@1.service\" }").unwrap();
    assert_eq!(restart, (unit(Job::Restart), unit(Job::Restart)), "software that only a restart tells");
    let main = read("reload = { signal = \"HUP\", unit = \"a@1.service\" }").unwrap();
    assert_eq!(main.0, hup(Process::Main("a@1.service".to_owned())));
    let file = read("reload = { signal = \"HUP\", pid_file = \"/run/a.pid\" }").unwrap();
    assert_eq!(file.0, hup(Process::PidFile("/run/a.pid".into())));

    let both = "{ unit = \"a@1.service\", pid_file = \"/run/a.pid\" }";
    for refused in ["\"nginx\"", "{}", "{ signal = \"HUP\" }", "{ pid_file = \"/run/a.pid\" }", both, "7"] {
        let found = hook(&format!("reload = {refused}")).unwrap_err();
        assert!(found[0].starts_with("hook.reload: write { unit = "), "{refused}: {found:?}");
    }
    let found = hook("reload = [1]").unwrap_err();
    assert!(found[0].starts_with("hook.reload: write the program"), "{found:?}");
    let named = |length: usize| format!("{}.service", "a".repeat(length - ".service".len()));
    read(&format!("restart = {{ unit = \"{}\" }}", named(255))).unwrap();
    for wrong in ["nginx", "-x.service", ".service", "a b.service", "a/b.service", &named(256)] {
        let found = hook(&format!("restart = {{ unit = \"{wrong}\" }}")).unwrap_err();
        assert!(found[0].starts_with("hook.restart.unit: write the name of a service"), "{wrong}: {found:?}");
    }
    let found = hook("reload = { signal = \"KILL\", pid_file = \"a.pid\", user = \"x\" }").unwrap_err();
    let keys: Vec<&str> = found.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(keys, ["hook.reload.user", "hook.reload.signal", "hook.reload.pid_file"], "all at once");
}

#[test]
fn that_there_is_no_tpm_is_said_and_needs_a_name() {
    let without = Config::parse(Path::new("/"), &format!("{LEAST}tpm = \"none\"\ndevice = \"press-1\"\n"));
    assert_eq!(without.unwrap().tpm, None);
    let told = faults(&format!("{LEAST}tpm = \"none\"\n"));
    assert_eq!(told, ["device: missing; a device without a TPM is known by its name alone"]);
}

#[test]
fn what_concerns_the_machine_alone_is_known_before_the_plant_root_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("attestor.toml");
    std::fs::write(&file, "device = \"press-7\"\nbroker = \"nowhere\"\ndeliver = \"given\"\n").unwrap();
    let local = Outline::read(&file, &Sources::none()).unwrap().local().unwrap();
    assert_eq!(local.device.unwrap().as_str(), "press-7");
    assert_eq!(local.deliver, dir.path().join("given"));
    assert!(matches!(local.tpm, Some(TpmAddress::Device(_))) && local.idevid.is_none());
    std::fs::write(&file, "device = \"press-7\"\ntpm = \"nowhere\"\n").unwrap();
    let error = Outline::read(&file, &Sources::none()).unwrap().local().unwrap_err().to_string();
    assert!(error.contains("attestor.toml cannot be used: tpm: "), "{error}");
}

#[test]
fn callers_of_the_tpm_wait_as_long_as_they_are_told() {
    let read = |line: &str| Config::parse(Path::new("/etc"), &format!("{LEAST}{line}"));
    assert_eq!(read("").unwrap().tpm_deadline.as_secs(), 30);
    for seconds in [5, 120] {
        assert_eq!(read(&format!("tpm_deadline = {seconds}")).unwrap().tpm_deadline.as_secs(), seconds);
    }
    for seconds in [-1, 0, 4, 121] {
        let found = read(&format!("tpm_deadline = {seconds}")).unwrap_err();
        assert_eq!(found, ["tpm_deadline: write 5 to 120 seconds"]);
    }
}
