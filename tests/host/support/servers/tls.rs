//! A certificate authority of the test's own, made with the `openssl` command.

use std::path::Path;
use std::process::Command;

/// Makes `ca.pem` in `folder`, and `node.pem` with `node.key` that it signed, for 127.0.0.1 and localhost.
pub fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
        let output = output.unwrap_or_else(|error| panic!("openssl: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    };
    let authority = "[req]\ndistinguished_name=name\nx509_extensions=authority\n[name]\n\
                     [authority]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
                     subjectKeyIdentifier=hash\n";
    std::fs::write(folder.join("ca.cnf"), authority).unwrap();
    let node = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n";
    std::fs::write(folder.join("node.cnf"), node).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=tests -config ca.cnf"));
    openssl(&format!("req {key} -keyout node.key -out node.csr -subj /CN=node -config ca.cnf"));
    openssl(
        "x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out node.pem -days 30 -extfile node.cnf",
    );
}
