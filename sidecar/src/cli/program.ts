// SPDX-License-Identifier: Apache-2.0
// The command line: subcommands, their options and what --help teaches. What they do is in the files beside this.
import { Command, CommanderError, Option } from 'commander';
import { join } from 'node:path';
import { kBackPressure, kSlowPolicies } from '../../../clients/typescript/src/codec';
import type { Native } from '../native/types';
import { sidecarVersion } from '../server';
import { annotateFiles, type AnnotateOptions } from './annotate';
import { bench, type BenchOptions } from './bench';
import { capture, type CaptureOptions } from './capture';
import { check, type CheckOptions } from './check';
import { demo, type DemoOptions } from './demo/demo';
import { kExit, kExitHelp, statusOf } from './exit';
import { explain, type ExplainOptions } from './explain';
import { explainPod, type ExplainPodOptions } from './explain_pod';
import {
  duration,
  number,
  shortDuration,
  sizeIn,
  wholeNumber,
  withAddress,
  withConnection,
  withDirectory,
  withJson,
} from './options';
import { terminal } from './output';
import { kStampBytes } from './payload';
import { leave, type LeaveOptions } from './leave';
import { kReflectorPort, ping, reflect, type PingOptions, type ReflectOptions } from './probe';
import { pub, type PubOptions } from './pub';
import { run } from './run_command';
import { kFormats, sub, type SubOptions } from './sub';
import { errors, loss, stat, type DirectoryOptions, type StatOptions } from './tools';

export function loadNative(): Native {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- only when a command needs it: help and usage errors work without the addon
  return (require(join(__dirname, '..', 'native', 'index')) as { native: Native }).native;
}

const kLongestSnap = 262_144; // as tcpdump's
const kLongestMessage = 128 * 1024 * 1024; // an eighth of the longest term

function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}\n${kExitHelp}`;
}

export function buildProgram(report: (status: number) => void): Command {
  const program = new Command('outrigger')
    .description('Messaging beside your app: a driver that speaks Aeron, a sidecar that speaks gRPC.')
    .version(sidecarVersion())
    .enablePositionalOptions()
    .exitOverride()
    .showHelpAfterError('(see --help)')
    .addHelpText(
      'after',
      examples(
        'outrigger demo                                     two hosts on this machine, real messages between them',
        'outrigger run --driver --topics-file topics.yaml   a driver and a sidecar here',
        'echo hello | outrigger pub greetings               publish a line',
        'outrigger sub greetings                            print what comes',
        'outrigger stat                                     counters and streams of the driver, live',
        'outrigger explain                                  which network backend it uses, and why no better one',
      ),
    );

  // Its settings are those of the schema, and what follows -- is an app's: runCli hands it its arguments as they are.
  program.command('run').description('run a sidecar; with --driver also a driver, with -- also an app');

  withJson(
    withConnection(program.command('pub'))
      .description('publish lines of standard input, or generated messages, to a topic')
      .argument('[topic]', 'name of the topic')
      .option('-n, --count <n>', 'generate this many messages', wholeNumber(1))
      .option('-s, --size <bytes>', 'bytes of a generated message (default 288)', sizeIn(0, kLongestMessage))
      .option(
        '-r, --rate <n>',
        'generated messages a second, open loop; 0: as fast as they are taken',
        number(0, 1e8),
      )
      .option('-t, --duration <time>', 'generate for this long', duration)
      .addOption(
        new Option('--back-pressure <policy>', 'what happens to a message that can not be taken now')
          .choices(Object.keys(kBackPressure))
          .default('wait'),
      )
      .option(
        '--exclusive',
        'a session of its own, not shared with other publishers of the topic in the sidecar',
      )
      .option('--linger <ms>', 'let messages wait this long to travel together', number(0, 60_000), 0)
      .option(
        '--wait <time>',
        'wait this long for a subscriber before the first message; 0: not at all',
        (text) => (text === '0' ? 0 : duration(text)),
        10_000,
      ),
    'a summary',
  )
    .addHelpText(
      'after',
      examples(
        'tail -f app.log | outrigger pub logs',
        'outrigger pub quotes --count 1000000 --size 288        as fast as it goes; see `sub --check`',
        'outrigger pub quotes --rate 5000 --duration 10s --json',
        'outrigger pub --channel aeron:ipc --stream 1001 -n 10  a channel, where the sidecar allows it',
      ),
    )
    .action(async (topic: string | undefined, options: PubOptions) => {
      report(await pub(topic, options, terminal()));
    });

  withJson(
    withConnection(program.command('sub'))
      .description('print the messages of a topic')
      .argument('[topic]', 'name of the topic')
      .option('-n, --count <n>', 'end after this many messages', wholeNumber(1))
      .option('-t, --duration <time>', 'end after this long', duration)
      .addOption(
        new Option('-f, --format <format>', 'how a message is printed').choices(kFormats).default('text'),
      )
      .addOption(
        new Option('--slow-policy <policy>', 'what happens when this end does not keep up')
          .choices(Object.keys(kSlowPolicies))
          .default('block'),
      )
      .option('--check', 'check numbers and checksums of messages that `pub` generated')
      .option('-q, --quiet', 'no events on standard error'),
    'a line for each message and event, and a summary,',
  )
    .addHelpText(
      'after',
      examples(
        'outrigger sub quotes',
        'outrigger sub quotes --count 1000000 --check --format none   exit status 1 when one is missing',
        'outrigger sub quotes --json | jq .payload',
        'outrigger sub quotes --slow-policy skip                      never slow a publisher down',
      ),
    )
    .action(async (topic: string | undefined, options: SubOptions) => {
      report(await sub(topic, options));
    });

  withJson(
    withDirectory(program.command('stat'))
      .description("show a driver's counters and streams, live on a terminal")
      .option('-i, --interval <time>', 'time between two looks', duration, 1000)
      .option(
        '-n, --count <n>',
        'look this often (default: on a terminal until Ctrl-C, else once)',
        wholeNumber(1),
      )
      .option('--all', 'every counter, also those at 0'),
    'a line for each look',
  )
    .addHelpText(
      'after',
      examples(
        'outrigger stat                          the driver of AERON_DIR',
        'outrigger stat -d /dev/shm/aeron-app    of another directory; also of a stock Aeron driver',
        'outrigger stat --json -n 2 -i 5         two looks five seconds apart, with rates in the second',
      ),
    )
    .action(async (options: StatOptions) => {
      report(await stat(options, loadNative(), terminal()));
    });

  withJson(
    program
      .command('check')
      .description(
        'is the cluster ready for an installation, does an installation work, has a pod what it needs?',
      )
      .option('--pre', 'before an installation: versions, permissions, what is there already')
      .option('--pod <name>', 'one pod, NAME or NAMESPACE/NAME')
      .option('-n, --namespace <name>', 'namespace of the operator', 'outrigger-system')
      .option('-w, --wait <time>', 'try again for this long what is not true yet', duration, 0),
    'the results',
  )
    .addHelpText(
      'after',
      examples(
        'outrigger check --pre                   may the chart be installed here, by me?',
        'outrigger check --wait 2m               after helm install: does everything work?',
        'outrigger check --pod shop/till-1       why does this pod not publish?',
      ),
    )
    .action(async (options: CheckOptions) => {
      report(await check(options, sidecarVersion(), terminal()));
    });

  withJson(
    program
      .command('annotate')
      .description(
        'have pods of manifests get a sidecar: adds the label and annotations, changes nothing else',
      )
      .argument('[files...]', 'manifests; none or -: standard input')
      .option(
        '-s, --set <key=value>',
        'an annotation, with or without outrigger.dev/ in front; several times for several',
        (text: string, before: readonly string[] | undefined) => [...(before ?? []), text],
      )
      .option('--remove', 'take label and annotations away instead'),
    'the manifests, as a List,',
  )
    .addHelpText(
      'after',
      `
Of Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs and Lists of them the pod template is changed. Everything else passes
through, comments and format too. What changed is said on standard error. A mistyped annotation or a value that is not allowed is refused as
the cluster would refuse it, and then nothing is written.
${examples(
  'outrigger annotate app.yaml | kubectl apply -f -',
  'kubectl get deployment till -o yaml | outrigger annotate --set profile=market-data | kubectl apply -f -',
  'outrigger annotate --set backends=uring,mmsg --set memory=512Mi app.yaml > labelled.yaml',
  'outrigger annotate --remove app.yaml',
)}`,
    )
    .action(async (files: readonly string[], options: AnnotateOptions) => {
      report(await annotateFiles(files, options, terminal()));
    });

  const explaining = withJson(
    withAddress(
      withDirectory(
        program
          .command('explain')
          .description(
            'say what each network backend could do here, why not more, and what the driver runs with; or explain a pod',
          )
          .option('--sidecar', 'say too what the sidecar has open, and the way to each member of its topics'),
      ),
    ),
    'it',
  )
    .addHelpText(
      'after',
      `
Backends are tried as a driver would, with its settings (OUTRIGGER_BACKENDS, OUTRIGGER_INTERFACE, ...) from the environment or, where that
has none, from the driver of the directory. Run it where the driver runs: as its user, in its container and network namespace.
${examples(
  'outrigger explain',
  'OUTRIGGER_INTERFACE=eth1 OUTRIGGER_BACKENDS=xdp,mmsg outrigger explain',
  `outrigger explain --json | jq '.backends[] | select(.name == "xdp")'`,
  'outrigger explain --sidecar               topics, members, and why one of them gets nothing',
  'outrigger explain pod till-1 -n shop      the same of a pod, and which profile made it',
)}`,
    )
    .action(async (options: ExplainOptions) => {
      report(await explain(options, terminal()));
    });

  withJson(
    explaining
      .command('pod')
      .description('explain a pod of the cluster: its profile, backend, topics, and the way to each member')
      .argument('<name>', 'NAME or NAMESPACE/NAME')
      .option('-n, --namespace <name>', "the pod's namespace (default: that of the kubeconfig's context)"),
    'it',
  )
    .addHelpText(
      'after',
      `
Asks the API server of the kubeconfig, and runs \`outrigger explain --sidecar\` in the pod's sidecar. What you have no right to ask is named, and
the rest is told. Of a pod without a sidecar it says why, and what to do.
${examples(
  'outrigger explain pod till-1 -n shop',
  `outrigger explain pod shop/till-1 --json | jq '.topics[].members[] | select(.to.state == "PATH_STATE_NOT_CONNECTED")'`,
)}`,
    )
    .action(async (name: string, options: ExplainPodOptions) => {
      report(await explainPod(name, options, sidecarVersion(), terminal()));
    });

  withJson(
    withDirectory(program.command('capture'))
      .description('write the frames of a raw backend, which the kernel does not see, to a pcapng file')
      .requiredOption('-o, --output <file>', 'the file; - for standard output')
      .option('-s, --snaplen <bytes>', 'bytes kept of each frame', sizeIn(1, kLongestSnap), kLongestSnap)
      .option('-n, --count <n>', 'end after this many packets, or a few more', wholeNumber(1))
      .option('-t, --duration <time>', 'end after this long (default: at Ctrl-C)', duration),
    'a summary',
  )
    .addHelpText(
      'after',
      `
For the backends packet, xdp and dpdk. Those on kernel sockets are refused: tcpdump sees their datagrams as they are. So is verbs,
whose RDMA datagrams only the device or the switch can show (RoCE v2, UDP port 4791).
Trains of a device with segmentation offload are taken apart, and checksums that a device makes are filled in.
${examples(
  'outrigger capture -o frames.pcapng -t 10s',
  'outrigger capture -o - | tshark -r -              live',
)}`,
    )
    .action(async (options: CaptureOptions) => {
      report(await capture(options, terminal()));
    });

  withJson(
    withDirectory(program.command('errors')).description("show a driver's log of distinct errors"),
    'them',
  )
    .addHelpText('after', examples('outrigger errors', 'outrigger errors --json | jq ".errors[].text"'))
    .action((options: DirectoryOptions) => {
      report(errors(options, loadNative(), terminal()));
    });

  withJson(
    withDirectory(program.command('loss')).description(
      "show a driver's loss report: gaps by stream and source",
    ),
    'it',
  )
    .addHelpText('after', examples('outrigger loss', 'outrigger loss --json'))
    .action((options: DirectoryOptions) => {
      report(loss(options, loadNative(), terminal()));
    });

  withJson(
    withConnection(program.command('bench'))
      .description('throughput and latency through a sidecar that runs, in a few seconds')
      .argument('[topic]', 'name of a topic that this sidecar may publish and receive')
      .option('--to <address>', 'gRPC address of the subscriber, when it is another sidecar')
      .option('-t, --seconds <n>', 'seconds for each of the two measurements', number(0.5, 3600), 3)
      .option('-r, --rate <n>', 'messages a second while latency is measured', number(1, 1e7), 10_000)
      .option('-s, --size <bytes>', 'bytes of a message', sizeIn(kStampBytes, 256 * 1024), 288),
    'the result',
  )
    .addHelpText(
      'after',
      `
Two apps of its own, each a process: one publishes, one receives and checks. First as fast as it goes, then at a rate for latency, which
counts from when a message was due. Compare on one machine only; \`make bench\` compares with others.
${examples(
  'outrigger bench quotes',
  'outrigger bench --channel aeron:ipc --stream 9 --size 1344',
  'outrigger bench quotes -a unix:/tmp/a.sock --to unix:/tmp/b.sock --json',
)}`,
    )
    .action(async (topic: string | undefined, options: BenchOptions) => {
      report(await bench(topic, options, terminal()));
    });

  const withMode = (command: Command, what: string): Command =>
    command.addOption(
      new Option('--mode <mode>', what).choices(['auto', 'native', 'generic']).default('auto'),
    );
  const withPort = (command: Command): Command =>
    command.option('-p, --port <port>', 'UDP port of the reflector', wholeNumber(1, 65_535), kReflectorPort);

  withJson(
    withPort(
      withMode(
        program
          .command('ping')
          .description(
            'round-trip time to a host that runs `outrigger reflect`: the network alone, with no process at the far end',
          )
          .argument('<host>', 'address or name of the host')
          .option('--xdp', 'against the XDP reflector, which is the only kind there is')
          .option('-n, --count <n>', 'probes', wholeNumber(1, 100_000_000), 1000)
          .addOption(
            new Option('-i, --interval <time>', 'time between two probes')
              .argParser(shortDuration)
              .default(1, '1ms'),
          )
          .option('-s, --size <bytes>', 'bytes of a probe', sizeIn(16, 1400), 64)
          .addOption(
            new Option('-t, --timeout <time>', 'how long the last answers are awaited')
              .argParser(duration)
              .default(1000, '1s'),
          )
          .addOption(
            new Option('--via <link>', 'an ordinary UDP socket, or an AF_XDP socket of this end')
              .choices(['socket', 'xdp'])
              .default('socket'),
          )
          .addOption(
            new Option('--wait <how>', 'spin: as fast as it can be; sleep: with the cost of waking up')
              .choices(['spin', 'sleep'])
              .default('spin'),
          ),
        'how the XDP program of --via xdp is attached',
      ),
    ),
    'the result',
  )
    .addHelpText(
      'after',
      `
Probes leave at fixed times, whatever happened to those before (open loop), and a probe's time counts from when it was due. A program in the
far host's kernel sends each back from the interface's receive queue: what is measured is this host, the network and two interfaces.
Over veth this end needs CAP_BPF and CAP_NET_ADMIN as well; --via xdp needs them always.
Exit status 1 when a probe found no answer.
${examples(
  'outrigger ping --xdp 10.0.0.2                  a thousand probes, one each millisecond',
  'outrigger ping --xdp 10.0.0.2 -n 100000 -i 100us --json | jq .rttUs.p99',
  'outrigger ping --xdp 10.0.0.2 --via xdp        without the UDP stack of this end',
  'outrigger ping --xdp 10.0.0.2 --wait sleep     what an idle app sees',
)}`,
    )
    .action(async (host: string, options: PingOptions) => {
      report(await ping(host, options, terminal()));
    });

  withJson(
    withPort(
      withMode(
        program
          .command('reflect')
          .description(
            'send the probes of `outrigger ping` straight back from an interface, by an XDP program',
          )
          .option('-I, --interface <name>', 'network interface (default: that of the default route)'),
        'native: in the driver; generic: behind it, on any interface; auto: the better one',
      ),
    ),
    'events',
  )
    .addHelpText(
      'after',
      `
It reflects nothing but probes, and only while this command runs. Everything else goes its usual way. It needs CAP_BPF and CAP_NET_ADMIN, and the
interface's XDP slot: a program that is there already is named and left alone.
${examples(
  'outrigger reflect -I eth0            until Ctrl-C',
  'outrigger reflect -I eth0 --mode generic --port 7000',
)}`,
    )
    .action(async (options: ReflectOptions) => {
      report(await reflect(options, terminal()));
    });

  withJson(
    program
      .command('demo')
      .description(
        'two hosts on this machine, a driver and a sidecar on each, real messages between two apps',
      )
      .option(
        '-b, --backend <names>',
        'network backends of the drivers, best first, as in OUTRIGGER_BACKENDS: mmsg,socket',
        'mmsg',
      )
      .option('-t, --seconds <n>', 'how long messages are published', number(0.1, 86_400), 5)
      .option(
        '-r, --rate <n>',
        'messages a second, open loop; 0: as fast as they are taken',
        number(0, 1e7),
        10_000,
      )
      .option('-s, --size <bytes>', 'bytes of a message', sizeIn(kStampBytes, 256 * 1024), 288)
      .option('-l, --loss <percent>', 'datagrams lost on purpose, each way', number(0, 50), 0),
    'the result',
  )
    .addHelpText(
      'after',
      `
With root it makes two network namespaces and a veth pair, and removes them again; else it runs on loopback and says so.
Each message carries a number and a checksum: what is lost, duplicated or out of order is counted, not assumed.
Latency counts from when a message was due (open loop), app to app through gRPC, and beside it engine to engine: two C++ clients
in the shared memory of the same drivers, at the same size and rate. The first second, at most a fifth, is not in the app's latencies.
${examples(
  'outrigger demo',
  'outrigger demo --backend socket --seconds 10 --rate 20000',
  'outrigger demo --loss 5                 five per cent of the datagrams lost, none of the messages',
  'outrigger demo --rate 0 --size 1344     as fast as it goes',
  'outrigger demo --json | jq .appLatencyUs',
)}`,
    )
    .action(async (options: DemoOptions) => {
      report(await demo(options, terminal()));
    });

  withJson(
    withAddress(program.command('leave'))
      .description('tell a sidecar that it will end soon: it is no longer ready, and what is open goes on')
      .option('-t, --timeout <time>', 'how long it may take to answer', duration, 5000),
    'the answer',
  )
    .addHelpText('after', examples('outrigger leave      what a pod does before it ends (preStop)'))
    .action(async (options: LeaveOptions) => {
      report(await leave(options, terminal()));
    });

  [...program.commands, ...explaining.commands].forEach((command) =>
    command.exitOverride().showHelpAfterError('(see --help)'),
  );
  return program;
}

/** Runs one command line; resolves to the exit status. */
export async function runCli(argv: readonly string[]): Promise<number> {
  let status: number = kExit.ok;
  const program = buildProgram((value) => (status = value));
  if (argv.length === 0) {
    program.outputHelp({ error: true });
    return kExit.usage;
  }
  try {
    if (argv[0] === 'run') {
      return await run(argv.slice(1), process.env, loadNative);
    }
    if (argv[0] === 'help' && argv[1] === 'run') {
      return await run(['--help'], process.env, loadNative);
    }
    await program.parseAsync(argv, { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? kExit.ok : kExit.usage;
    }
    const known = statusOf(error);
    if (known === undefined) {
      throw error;
    }
    process.stderr.write(`outrigger: ${(error as Error).message}\n`);
    return known;
  }
}
