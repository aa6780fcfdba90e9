// SPDX-License-Identifier: Apache-2.0
// The requests of a serving peer: `<number> <verb> key=value ...` a line, answered in any order by one line of JSON that starts with that
// number as "re". A failure has "error" and, from the driver, "code". native/bench/interop_peer.cc speaks the same for our client.
package dev.outrigger.interop;

import io.aeron.Aeron;
import io.aeron.CommonContext;
import io.aeron.Counter;
import io.aeron.ExclusivePublication;
import io.aeron.Publication;
import io.aeron.driver.MediaDriver;
import io.aeron.exceptions.RegistrationException;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import org.agrona.concurrent.BackoffIdleStrategy;
import org.agrona.concurrent.status.CountersReader;

final class Server {
    // A client with what its error handler was told.
    private record Client(Aeron aeron, List<String> errors) implements AutoCloseable {
        @Override
        public void close() {
            aeron.close();
        }
    }

    private final InputStream input;
    private final PrintStream output;
    private final ExecutorService workers = Executors.newCachedThreadPool(runnable -> {
        final Thread thread = new Thread(runnable);
        thread.setDaemon(true);
        return thread;
    });
    private final Map<String, AutoCloseable> objects = new ConcurrentHashMap<>();
    private final List<Collector> collectors = new CopyOnWriteArrayList<>();
    private final List<String> driverErrors = new CopyOnWriteArrayList<>();
    private volatile boolean stopped;

    Server(final InputStream input, final PrintStream output) {
        this.input = input;
        this.output = output;
    }

    void run() throws Exception {
        final Thread poller = new Thread(this::poll, "poller");
        poller.setDaemon(true);
        poller.start();
        final BufferedReader reader = new BufferedReader(new InputStreamReader(input, StandardCharsets.UTF_8));
        for (String line = reader.readLine(); line != null; line = reader.readLine()) {
            final String[] words = line.trim().split(" ");
            if (words.length >= 2) {
                workers.execute(() -> answer(words));
            }
        }
        // The harness is gone or done: clients before drivers, so that no driver waits for a client that is already dead.
        stopped = true;
        poller.join();
        closeAll(Collector.class);
        closeAll(Sender.class);
        closeAll(Counter.class);
        closeAll(Client.class);
        closeAll(MediaDriver.class);
        System.exit(0);
    }

    private void closeAll(final Class<?> kind) {
        objects.values().stream().filter(kind::isInstance).forEach(object -> {
            try {
                object.close();
            } catch (final Exception ex) {
                ex.printStackTrace();
            }
        });
    }

    private void poll() {
        final BackoffIdleStrategy idle = new BackoffIdleStrategy(10, 20, 1_000, 1_000_000);
        while (!stopped) {
            int work = 0;
            for (final Collector collector : collectors) {
                try {
                    work += collector.poll();
                } catch (final Throwable t) {
                    driverErrors.add("poll: " + t);
                    collectors.remove(collector);
                }
            }
            idle.idle(work);
        }
    }

    private void answer(final String[] words) {
        String line;
        try {
            final Json json = handle(words[1], Options.ofRequest(words, 2));
            line = json.put("re", Long.parseLong(words[0])).toString();
        } catch (final Throwable t) {
            final Json json = new Json().put("re", Long.parseLong(words[0])).put("error", String.valueOf(t.getMessage())).put("kind", t.getClass().getSimpleName());
            if (t instanceof RegistrationException) {
                json.put("code", ((RegistrationException) t).errorCode().name());
            }
            line = json.toString();
        }
        synchronized (output) {
            output.println(line);
            output.flush();
        }
    }

    private Json handle(final String verb, final Options options) throws Exception {
        switch (verb) {
            case "driver":
                put(options, Drivers.launch(options, error -> driverErrors.add(String.valueOf(error))));
                return new Json();
            case "driver-errors":
                return new Json().putTexts("errors", driverErrors);
            case "client":
                return client(options);
            case "client-status":
                return clientStatus(options);
            case "pub":
                return publication(options).json();
            case "sub":
                return subscription(options).json();
            case "send":
                return get(options, Sender.class).send(options);
            case "offer":
                return get(options, Sender.class).offerOnce(options);
            case "abandon-claim":
                return get(options, Sender.class).abandonClaim(options);
            case "pub-status":
                return get(options, Sender.class).json();
            case "sub-status":
                return get(options, Collector.class).json();
            case "await-pub":
                return awaitPublication(options);
            case "await-sub":
                return awaitSubscription(options);
            case "pause":
                get(options, Collector.class).paused = options.flag("on");
                return new Json();
            case "reject": {
                final String reason = options.text("reason");
                get(options, Collector.class).subscription.images().forEach(image -> image.reject(reason));
                return new Json();
            }
            case "add-destination":
                destination(options, true);
                return new Json();
            case "remove-destination":
                destination(options, false);
                return new Json();
            case "add-destination-async": {
                final Publication publication = get(options, Sender.class).publication;
                final long id = publication.asyncAddDestination(options.text("channel"));
                final Aeron aeron = get(options, Client.class, "client").aeron();
                await(options, "the destination", () -> !aeron.isCommandActive(id));
                return new Json().putWide("id", id);
            }
            case "revoke":
                ((ExclusivePublication) get(options, Sender.class).publication).revoke();
                return new Json();
            case "counter":
                return counter(options);
            case "counters":
                return counters(get(options, Client.class).aeron().countersReader());
            case "static-counter": {
                final Counter counter = get(options, Client.class, "client").aeron()
                    .addStaticCounter((int) options.number("type"), options.text("label"), options.number("registration"));
                return new Json().put("id", counter.id()).putWide("registrationId", counter.registrationId());
            }
            case "next-session":
                return new Json().put("session", get(options, Client.class).aeron().nextSessionId((int) options.number("stream")));
            case "raw":
                return RawCommands.send(options);
            case "terminate":
                return terminate(options);
            case "close":
                close(options);
                return new Json();
            default:
                throw new IllegalArgumentException("unknown request " + verb);
        }
    }

    private Json client(final Options options) {
        final List<String> errors = new CopyOnWriteArrayList<>();
        final Aeron.Context context = new Aeron.Context()
            .aeronDirectoryName(options.text("dir"))
            .errorHandler(error -> errors.add(String.valueOf(error)))
            .publicationErrorFrameHandler(frame -> errors.add("publication error " + frame.errorCode() + ": " + frame.errorMessage()))
            .driverTimeoutMs(options.number("driver-timeout-ms", 10_000));
        final Aeron aeron = Aeron.connect(context);
        put(options, new Client(aeron, errors));
        return new Json().putWide("clientId", aeron.clientId());
    }

    private Json clientStatus(final Options options) {
        final Client client = get(options, Client.class);
        if (options.has("await-closed")) {
            await(options, "closing of the client", () -> client.aeron().isClosed());
        }
        return new Json().put("closed", client.aeron().isClosed()).putTexts("errors", client.errors());
    }

    private Sender publication(final Options options) {
        final Aeron aeron = get(options, Client.class, "client").aeron();
        final String channel = options.text("channel");
        final int stream = (int) options.number("stream");
        final Publication publication =
            options.flag("exclusive") ? aeron.addExclusivePublication(channel, stream) : aeron.addPublication(channel, stream);
        final Sender sender = new Sender(publication);
        put(options, sender);
        return sender;
    }

    private Collector subscription(final Options options) {
        final Collector collector = new Collector(get(options, Client.class, "client").aeron(), options.text("channel"),
            (int) options.number("stream"), options.flag("paused"));
        put(options, collector);
        collectors.add(collector);
        return collector;
    }

    private Json awaitPublication(final Options options) {
        final Publication publication = get(options, Sender.class).publication;
        if (options.has("connected")) {
            final boolean wanted = options.flag("connected");
            await(options, "connected=" + wanted, () -> publication.isConnected() == wanted);
        }
        if (options.has("closed")) {
            await(options, "closed", publication::isClosed);
        }
        if (options.has("limit")) {
            await(options, "limit", () -> publication.positionLimit() >= options.number("limit"));
        }
        if (options.has("active")) {
            await(options, "active channel", () -> publication.channelStatus() == 1);
        }
        return get(options, Sender.class).json();
    }

    // Waits until what was asked for holds; the figures at the time limit are the error's text.
    private Json awaitSubscription(final Options options) {
        final Collector collector = get(options, Collector.class);
        if (options.has("count")) {
            await(options, "count " + options.number("count"), () -> collector.count() >= options.number("count"), collector);
        }
        if (options.has("images")) {
            await(options, "images " + options.number("images"), () -> collector.available() == options.number("images"), collector);
        }
        if (options.has("ended")) {
            await(options, "ended " + options.number("ended"), () -> collector.ended() >= options.number("ended"), collector);
        }
        return collector.json();
    }

    private void destination(final Options options, final boolean add) {
        final AutoCloseable object = get(options, AutoCloseable.class);
        final String channel = options.text("channel", "");
        if (object instanceof Sender && !add && options.has("id")) {
            ((Sender) object).publication.removeDestination(options.number("id"));
        } else if (object instanceof Sender && add) {
            ((Sender) object).publication.addDestination(channel);
        } else if (object instanceof Sender) {
            ((Sender) object).publication.removeDestination(channel);
        } else if (add) {
            ((Collector) object).subscription.addDestination(channel);
        } else {
            ((Collector) object).subscription.removeDestination(channel);
        }
    }

    private Json counter(final Options options) {
        final Counter counter = get(options, Client.class, "client").aeron().addCounter((int) options.number("type"), options.text("label"));
        counter.setRelease(options.number("value", 0));
        put(options, counter);
        return new Json().put("id", counter.id()).putWide("registrationId", counter.registrationId());
    }

    private static Json counters(final CountersReader reader) {
        final List<Json> all = new ArrayList<>();
        reader.forEach((value, id, label) -> all.add(new Json()
            .put("id", id)
            .put("type", reader.getCounterTypeId(id))
            .putWide("value", value)
            .putWide("registrationId", reader.getCounterRegistrationId(id))
            .putWide("ownerId", reader.getCounterOwnerId(id))
            .put("label", label)));
        return new Json().put("counters", all);
    }

    private static Json terminate(final Options options) {
        final byte[] token = options.text("token", "").getBytes(StandardCharsets.US_ASCII);
        final boolean sent = CommonContext.requestDriverTermination(
            new File(options.text("dir")), new org.agrona.concurrent.UnsafeBuffer(token), 0, token.length);
        return new Json().put("sent", sent);
    }

    private void close(final Options options) throws Exception {
        final AutoCloseable object = objects.remove(options.text("name"));
        if (object == null) {
            throw new IllegalArgumentException("nothing named " + options.text("name"));
        }
        if (object instanceof Collector) {
            collectors.remove(object);
        }
        object.close();
    }

    private void put(final Options options, final AutoCloseable object) {
        objects.put(options.text("name"), object);
    }

    private <T> T get(final Options options, final Class<T> kind) {
        return get(options, kind, "name");
    }

    private <T> T get(final Options options, final Class<T> kind, final String key) {
        final AutoCloseable object = objects.get(options.text(key));
        if (!kind.isInstance(object)) {
            throw new IllegalArgumentException("no " + kind.getSimpleName() + " named " + options.text(key));
        }
        return kind.cast(object);
    }

    private static void await(final Options options, final String what, final BooleanSupplier condition) {
        await(options, what, condition, null);
    }

    private static void await(final Options options, final String what, final BooleanSupplier condition, final Collector collector) {
        final long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(options.number("timeout-ms", 45_000));
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("no " + what + (collector == null ? "" : ": " + collector.json()));
            }
            LockSupport.parkNanos(1_000_000);
        }
    }
}
