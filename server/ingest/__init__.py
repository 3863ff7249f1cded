"""From OTLP to rows: decoding, mapping, pricing and durable writing of spans."""
