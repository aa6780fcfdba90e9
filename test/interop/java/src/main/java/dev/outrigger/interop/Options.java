// SPDX-License-Identifier: Apache-2.0
// `--key value` arguments of the interop peer.
package dev.outrigger.interop;

import java.util.HashMap;
import java.util.Map;

final class Options {
    private final Map<String, String> values = new HashMap<>();

    Options(final String[] args, final int from) {
        for (int i = from; i < args.length; i += 2) {
            if (!args[i].startsWith("--") || i + 1 >= args.length) {
                throw new IllegalArgumentException("expected --key value, got " + args[i]);
            }
            values.put(args[i].substring(2), args[i + 1]);
        }
    }

    String text(final String key, final String fallback) {
        final String value = values.getOrDefault(key, fallback);
        if (value == null) {
            throw new IllegalArgumentException("missing --" + key);
        }
        return value;
    }

    long number(final String key, final long fallback) {
        return Long.parseLong(values.getOrDefault(key, Long.toString(fallback)));
    }

    boolean flag(final String key) {
        return Boolean.parseBoolean(values.getOrDefault(key, "false"));
    }
}
