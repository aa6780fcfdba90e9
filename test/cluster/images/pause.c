// SPDX-License-Identifier: Apache-2.0
// First process of a pod's sandbox in the test cluster: holds the namespaces, reaps orphans, ends when told.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void onSignal(int number) {
  if (number == SIGCHLD) {
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  } else {
    _exit(0);
  }
}

int main(void) {
  signal(SIGINT, onSignal);
  signal(SIGTERM, onSignal);
  signal(SIGCHLD, onSignal);
  for (;;) pause();
}
