"""Frameworks for JavaScript: Genkit, Mastra, the AI SDK."""

from __future__ import annotations

from decimal import Decimal

from tests.ingest.emitters.case_form import GPT, OPENAI_BODY, OPENAI_COUNTS, Case, dumps

CASES: dict[str, Case] = {
    "genkit_flow": (
        {"genkit:type": "action", "genkit:metadata:subtype": "flow", "genkit:name": "menu"},
        {},
        {"dialect": "genkit", "operation_type": "workflow", "is_generation": False},
    ),
    "genkit_helper": ({"genkit:type": "util", "genkit:name": "generate"}, {}, {"operation_type": "chain"}),
    "genkit_call": (
        {
            "genkit:type": "action",
            "genkit:metadata:subtype": "model",
            "genkit:name": f"openai/{GPT}",
            "genkit:input": dumps({"messages": [{"role": "user", "content": [{"text": "how hot"}]}]}),
            "genkit:output": dumps(
                {
                    "message": {"role": "model", "content": [{"text": "very"}]},
                    "finishReason": "stop",
                    "usage": {"inputTokens": 700, "outputTokens": 90, "totalTokens": 790},
                    "raw": OPENAI_BODY,
                }
            ),
        },
        {},
        {
            "provider": "openai",
            "request_model": GPT,
            "model": "gpt-4.1-mini-2025-04-14",
            "finish_reason": "stop",
            "input_text": "how hot",
            "output_text": "very",
            **OPENAI_COUNTS,
        },
    ),
    "genkit_call_that_failed": (
        {"genkit:metadata:subtype": "model", "genkit:name": "googleai/gemini-2.5-flash"},
        {"status": {"code": 2, "message": "Error: quota"}},
        {"provider": "google", "model": "gemini-2.5-flash", "status_code": "ERROR", "error_type": "Error"},
    ),
    "genkit_tool_parts": (
        {
            "genkit:metadata:subtype": "model",
            "genkit:name": f"openai/{GPT}",
            "genkit:output": dumps(
                {
                    "message": {
                        "role": "model",
                        "content": [{"toolRequest": {"name": "oven", "ref": "r1", "input": {"c": 200}}}],
                    }
                }
            ),
        },
        {},
        {"output_text": '[tool_call oven({"c":200})]'},
    ),
    "mastra_step": (
        {
            "gen_ai.operation.name": "workflow_step",
            "mastra.workflow_step.input": '{"size": 3}',
            "mastra.metadata.resourceId": "kim",
            "mastra.metadata.threadId": "t-3",
            "mastra.tags": '["z","a"]',
        },
        {},
        {
            "operation_type": "chain",
            "input_text": '{"size":3}',
            "user_id": "kim",
            "session_id": "t-3",
            "tags": ["z", "a"],
        },
    ),
    "mastra_agent": (
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.system_instructions": "Be kind.",
            "mastra.agent_run.input": "and then",
        },
        {},
        {"input_text": "system: Be kind.\nuser: and then"},
    ),
    "ai_sdk_context": (
        {
            "gen_ai.operation.name": "agent_step",
            "ai.settings.context.userId": "kim",
            "ai.settings.context.sessionId": "s-1",
            "ai.settings.context.tags": ["b"],
        },
        {},
        {"operation_type": "chain", "user_id": "kim", "session_id": "s-1", "tags": ["b"]},
    ),
    "ai_sdk_embedded_texts": (
        {"ai.operationId": "ai.embed.doEmbed", "ai.values": ['"milk"']},
        {},
        {"input_text": "milk", "operation_type": "embedding"},
    ),
    "ai_sdk_speech": (
        {"ai.operationId": "ai.generateSpeech", "ai.model.id": "tts-1"},
        {},
        {"operation_type": "speech", "is_generation": True},
    ),
    "ai_sdk_tells_cache_writes_by_what_is_left": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-sonnet-4-5",
            "gen_ai.usage.input_tokens": 950,
            "gen_ai.usage.output_tokens": 200,
            "gen_ai.usage.cache_read.input_tokens": 700,
            "ai.usage.inputTokenDetails.noCacheTokens": 100,
        },
        {"scope": "gen_ai"},
        {"prompt_tokens": 950, "cache_write_tokens": 150, "total_cost_usd": Decimal("0.0040725")},
    ),
    "ai_sdk_has_the_counts_of_gemini_in_its_answer_alone": (
        {
            "ai.operationId": "ai.generateObject.doGenerate",
            "ai.model.provider": "google.generative-ai",
            "ai.model.id": "gemini-2.5-flash",
            "ai.usage.promptTokens": 1000,
            "ai.usage.completionTokens": 300,
            "ai.response.providerMetadata": dumps(
                {"google": {"usageMetadata": {"cachedContentTokenCount": 600, "thoughtsTokenCount": 120}}}
            ),
        },
        {},
        {
            "cached_tokens": 600,
            "completion_tokens": 300,
            "reasoning_tokens": 120,
            "total_cost_usd": Decimal("0.000888"),
        },
    ),
}
