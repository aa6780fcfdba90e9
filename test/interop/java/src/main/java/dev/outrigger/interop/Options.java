// SPDX-License-Identifier: Apache-2.0
// Arguments of the interop peer: `--key value` on the command line, `key=value` in a request line.
package dev.outrigger.interop;

import java.util.LinkedHashMap;
import java.util.Map;

final class Options {
    private final Map<String, String> values = new LinkedHashMap<>();

    private Options() {
    }

    static Options ofCommandLine(final String[] args, final int from) {
        final Options options = new Options();
        for (int i = from; i < args.length; i += 2) {
            if (!args[i].startsWith("--") || i + 1 >= args.length) {
                throw new IllegalArgumentException("expected --key value, got " + args[i]);
            }
            options.values.put(args[i].substring(2), args[i + 1]);
        }
        return options;
    }

    // Words after `from`; a value may hold '=' (channels do), a key not.
    static Options ofRequest(final String[] words, final int from) {
        final Options options = new Options();
        for (int i = from; i < words.length; i++) {
            final int equals = words[i].indexOf('=');
            if (equals <= 0) {
                throw new IllegalArgumentException("expected key=value, got " + words[i]);
            }
            options.values.put(words[i].substring(0, equals), words[i].substring(equals + 1));
        }
        return options;
    }

    String text(final String key) {
        final String value = values.get(key);
        if (value == null) {
            throw new IllegalArgumentException("missing " + key);
        }
        return value;
    }

    String text(final String key, final String fallback) {
        return values.getOrDefault(key, fallback);
    }

    boolean has(final String key) {
        return values.containsKey(key);
    }

    long number(final String key) {
        return Long.parseLong(text(key));
    }

    long number(final String key, final long fallback) {
        return Long.parseLong(values.getOrDefault(key, Long.toString(fallback)));
    }

    double fraction(final String key) {
        return Double.parseDouble(values.getOrDefault(key, "0"));
    }

    boolean flag(final String key) {
        return Boolean.parseBoolean(values.getOrDefault(key, "false"));
    }

    Map<String, String> all() {
        return values;
    }
}
