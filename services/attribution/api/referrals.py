"""ReferralService: decode, report, encode."""

import grpc
from touchstone.attribution.v1 import referral_service_pb2 as pb
from touchstone.attribution.v1 import referral_service_pb2_grpc as rpc

from services.attribution.application.referral_ports import ReferralLog
from services.attribution.application.referrals import get_referrals
from services.attribution.limits import AttributionLimits
from services.attribution.wire.referrals import decode_referrals, encode_referrals
from shared.lake.analyses import Analyses
from shared.security.caller import current_caller
from shared.server.waiting import waiting_time_s


class ReferralServicer(rpc.ReferralServiceServicer):
    """Reports on campaigns of the caller's project, in the threads of `analyses`."""

    def __init__(self, log: ReferralLog, limits: AttributionLimits, analyses: Analyses) -> None:
        self._log = log
        self._limits = limits
        self._analyses = analyses

    async def GetReferrals(
        self, request: pb.GetReferralsRequest, context: grpc.ServicerContext
    ) -> pb.GetReferralsResponse:
        """Reports on a campaign."""
        project = current_caller().project
        command = decode_referrals(request, project, self._limits.max_invitations)
        wait_s = waiting_time_s(context, self._limits.max_wait_s)
        await self._log.wait_until(request.consistency_token, wait_s)
        answer = await self._analyses.run(lambda: get_referrals(command, self._log))
        return encode_referrals(command, answer)
