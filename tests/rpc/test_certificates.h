#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "rpc/tls.h"

namespace winnow {

// An authority and a certificate that it signed for 127.0.0.1 and workers.winnow, made by the
// openssl program in a folder of its own, which goes with it.
class TestCertificates {
 public:
  TestCertificates() {
    std::string folder = testing::TempDir() + "winnow-tls-XXXXXX";
    EXPECT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    Make();
  }
  ~TestCertificates() { std::filesystem::remove_all(folder_); }
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;

  // Anew, under the same names: nothing that was signed before is good any more.
  void Make() {
    Run("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -subj /CN=authority -keyout ca.key -out ca.pem");
    Run("req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=peer"
        " -addext subjectAltName=IP:127.0.0.1,DNS:workers.winnow -keyout next.key -out "
        "request.pem");
    Run("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -copy_extensions copy -out next.pem");
    // Both at once, as an operator would; gRPC looks at them about once a second.
    std::filesystem::rename(folder_ + "/next.key", folder_ + "/key.pem");
    std::filesystem::rename(folder_ + "/next.pem", folder_ + "/cert.pem");
  }

  TlsFiles all() const { return {path("cert.pem"), path("key.pem"), path("ca.pem")}; }
  TlsFiles identity() const { return {path("cert.pem"), path("key.pem"), ""}; }
  TlsFiles authority() const { return {"", "", path("ca.pem")}; }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

 private:
  void Run(const std::string& arguments) {
    const std::string command = "cd " + folder_ + " && openssl " + arguments + " >> log 2>&1";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
  std::string folder_;
};

}  // namespace winnow
